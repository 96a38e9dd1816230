"""What is told of drills: counts that add up, and the bags that call for somebody."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.cli.fixity.drill import summary
from dpn.recovery.drills import Drilled
from tests.fixtures.records import LONG_AGO

DAY = 86_400.0


def one(result: str, waits: float = 0.0, source: str = "peer:south", item: int = 1) -> Drilled:
    return Drilled(item, "a-drill", source, "a-bag", LONG_AGO, result, "note", waits)  # type: ignore[arg-type]


def test_nothing_drilled_is_nothing_to_worry_about() -> None:
    assert summary([], late_after=timedelta(days=7)).ok


def test_what_is_bad_or_waits_for_too_long_calls_for_somebody() -> None:
    fine = [one("good"), one("cancelled"), one("waiting", 6.9 * DAY)]
    assert summary(fine, late_after=timedelta(days=7)).ok
    assert not summary([*fine, one("bad")], late_after=timedelta(days=7)).ok
    late = summary([*fine, one("waiting", 7.1 * DAY)], late_after=timedelta(days=7))
    assert not late.ok
    assert [bag.waits_seconds for bag in late.late] == [7.1 * DAY]
    (tally,) = late.tallies
    assert tally.longest_wait_seconds == 7.1 * DAY


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["good", "bad", "cancelled", "waiting"]), st.sampled_from(["a", "b"]))))
def test_the_counts_of_a_source_add_up(results: list[tuple[str, str]]) -> None:
    told = [one(result, source=source) for result, source in results]
    tallies = summary(told, late_after=timedelta(days=7)).tallies
    assert sum(tally.asked for tally in tallies) == len(told)
    for tally in tallies:
        assert tally.asked == tally.good + tally.bad + tally.cancelled + tally.waiting
        assert tally.good == sum(1 for each in told if each.source == tally.source and each.result == "good")
