"""What is foretold of fixity checks, and what is said of the levels reached."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dpn.fixity.forecast import plan
from dpn.fixity.levels import Answer, Facts, levels
from dpn.fixity.schedule import DAY, ROUND, DueDay, Limits, Load
from tests.unit.fixity.simulation import START

GB = 1_000_000_000


def demand(days: int = 730, each: int = 10) -> list[DueDay]:
    return [DueDay(START + day * DAY, Load(each, each * GB)) for day in range(1, days + 1)]


def steady() -> list[DueDay]:
    """As an archive that was checked evenly for years: the next copy is due in 33 days."""
    return demand()[33:]


def of(limits: Limits, due: list[DueDay] | None = None, *, days: int = 30, largest: int = GB):  # type: ignore[no-untyped-def]
    return plan(
        demand() if due is None else due,
        limits,
        now=START,
        every_days=730,
        days=days,
        runs_per_day=1,
        largest=largest,
    )


def test_the_coming_days_are_even_and_their_costs_add_up() -> None:
    planned = of(Limits(20, cost_per_gb=0.5), steady())
    assert planned.is_kept
    assert [one.checks for one in planned.days] == pytest.approx([10] * 30, rel=0.01)
    assert planned.days[0].cost == pytest.approx(planned.days[0].bytes / GB * 0.5)


def test_a_year_ahead_takes_as_many_checks_as_the_scheduler_would_begin() -> None:
    planned = of(Limits(1000), steady(), days=365)
    assert sum(one.checks for one in planned.days) == pytest.approx(365 * 10, rel=0.01)


@pytest.mark.parametrize(
    ("limits", "setting", "needed"),
    [
        (Limits(9), "fixity.max_checks_per_run", 10),
        (Limits(20, bytes_per_day=9 * GB), "fixity.max_bytes_per_day", 10 * GB),
        (Limits(20, cost_per_month=29, cost_per_gb=0.1), "fixity.max_retrieval_cost_per_month", 30),
    ],
    ids=["checks", "bytes", "cost"],
)
def test_a_limit_that_is_too_small_is_named_with_what_it_would_have_to_be(
    limits: Limits, setting: str, needed: float
) -> None:
    planned = of(limits)
    assert not planned.is_kept
    (small,) = [need for need in planned.limits if not need.is_enough]
    assert small.setting == setting
    assert small.needed == pytest.approx(needed, rel=0.01)
    assert small.advised == pytest.approx(needed / ROUND, rel=0.01)


def test_limits_hold_in_the_forecast() -> None:
    planned = of(Limits(20, bytes_per_day=4 * GB))
    assert max(one.bytes for one in planned.days) <= 4 * GB


def test_the_promise_is_broken_by_what_is_overdue_or_larger_than_a_limit() -> None:
    overdue = [DueDay(START - timedelta(days=3), Load(2, GB)), *demand()]
    assert (of(Limits(20), overdue).overdue.checks, of(Limits(20), overdue).is_kept) == (2, False)
    too_large = of(Limits(20, bytes_per_day=20 * GB), largest=21 * GB)
    assert (too_large.is_too_large, too_large.is_kept) == (True, False)


def test_nothing_is_foretold_of_no_copies() -> None:
    planned = of(Limits(20), [])
    assert (planned.is_kept, sum(one.checks for one in planned.days)) == (True, 0)


GOOD = Facts(copies=5, overdue=0, failed=0, never=1, have_peers=True, checks_run=True)


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (Facts(5, 0, 1, 0, True, True), 3),
        (Facts(5, 1, 0, 0, True, True), 2),
        (Facts(5, 0, 0, 5, True, False), 2),
        (Facts(0, 0, 0, 0, True, True), 2),
        (Facts(5, 0, 0, 0, False, True), 1),
    ],
    ids=["one bad", "one overdue", "no checks", "no copies", "no peers"],
)
def test_a_level_is_reached_where_nothing_is_missing_up_to_it(facts: Facts, level: int) -> None:
    reached = levels(facts)
    assert reached.reached == level
    assert reached.missing
    assert all(one.level == level + 1 for one in reached.missing)


def test_where_bad_copies_are_replaced_nothing_is_missing() -> None:
    assert (levels(GOOD).reached, levels(GOOD).missing) == (4, ())
    assert levels(GOOD).asked[-1].why == "by hand: `dpn fixity repair`"


def test_what_software_cannot_see_is_neither_claimed_nor_denied() -> None:
    assert {one.what for one in levels(GOOD).yours} == {
        "content is checked for viruses",
        "originals are read through write-blockers",
        "copies are verified after certain events",
    }
    assert all(one.answer is Answer.YOURS for one in levels(GOOD).yours)
