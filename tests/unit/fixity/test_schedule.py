"""The schedule of fixity checks over years: even days, nothing late, whatever happens meanwhile."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.fixity.schedule import (
    CATCH_UP,
    DAY,
    ROUND,
    Credit,
    DueCopy,
    DueDay,
    Lately,
    Limits,
    Load,
    choose,
    credited,
    pace_of,
)
from tests.unit.fixity.simulation import START, Archive

GB = 1_000_000_000
TWO_YEARS = 730


def assert_even(archive: Archive, first: int, last: int) -> None:
    """Every day within 5 % of the mean, or within the one check that no day can be divided by; in whole checks."""
    loads = [load.checks for load in archive.loads(first, last)]
    mean = sum(loads) / len(loads)
    spare = max(0.05 * mean, 1.0)
    assert floor(mean - spare) <= min(loads)
    assert max(loads) <= ceil(mean + spare)


def test_ten_thousand_bags_stored_on_one_day_are_spread_evenly_over_their_two_years_and_none_is_late() -> None:
    archive = Archive(TWO_YEARS)
    archive.store([GB] * 10_000)
    archive.live(TWO_YEARS, 1)
    even = 10_000 / TWO_YEARS
    loads = [load.checks for load in archive.loads(1, TWO_YEARS)]
    assert set(loads) == {14, 15}, "what is within 5 % of their mean, in whole checks"
    assert sum(loads) / len(loads) == pytest.approx(even, rel=0.05)
    assert archive.late_days == []
    assert len(archive.checks) == 10_000


def test_after_an_outage_of_thirty_days_none_is_late_and_no_day_heavy() -> None:
    archive = Archive(TWO_YEARS)
    archive.store([GB] * 10_000)
    archive.live(1000, 1, away=lambda day: 690 <= day < 720)
    assert archive.late_days == []
    after = [load.checks for load in archive.loads(722, 1000)]
    assert set(after) <= {14, 15}
    assert sum(after) > sum(load.checks for load in archive.loads(400, 678)), "the time lost is won back"


@settings(max_examples=6, deadline=None)
@given(
    copies=st.integers(100, 400),
    every_days=st.integers(50, 70),
    runs_a_day=st.sampled_from([1, 2, 5]),
    outage=st.integers(0, 4),
    begins=st.integers(20, 80),
    size=st.sampled_from([1, GB, 300 * GB]),
)
def test_whatever_the_archive_and_the_number_of_runs_days_are_even_and_none_is_late(
    copies: int, every_days: int, runs_a_day: int, outage: int, begins: int, size: int
) -> None:
    """Four percent of the promised time, which is thirty days of two years, is the longest outage."""
    away = int(every_days * 0.04) if outage else 0
    archive = Archive(every_days)
    archive.store([size] * copies)
    archive.live(130, runs_a_day, away=lambda day: begins <= day < begins + away)
    assert archive.late_days == []
    assert_even(archive, 1, begins)
    if begins + away + 2 < 130:
        # One day more: the first one after it begins with a little, where there is only one run.
        assert_even(archive, begins + away + 1, 130)


def test_bags_that_come_all_the_time_are_checked_in_time_and_the_load_grows_smoothly() -> None:
    archive = Archive(100)
    archive.live(500, 1, each_day=lambda a, day: a.store([GB] * 10, f"{day:04d}-"))
    assert archive.late_days == []
    loads = [load.checks for load in archive.loads(20, 500)]
    steps = [abs(one - next_) for one, next_ in pairwise(loads)]
    assert max(steps) <= 2
    held = 10 * 499
    assert loads[-1] == pytest.approx(held / (100 * ROUND), rel=0.08)


def test_bags_of_very_different_sizes_share_out_the_work_as_well_as_the_largest_can_be_divided() -> None:
    source = random.Random(3)
    sizes = [int(source.lognormvariate(20, 2)) for _ in range(1500)]
    archive = Archive(200)
    archive.store(sizes)
    archive.live(300, 2)
    largest = max(Load(1, size).work for size in sizes)
    pace = sum(Load(1, size).work for size in sizes) / (200 * ROUND)
    assert archive.late_days == []
    assert max(load.work for load in archive.loads(1, 300)) <= pace * (1 + CATCH_UP) + largest
    by_weeks = [sum(load.work for load in archive.loads(day, day + 28)) for day in range(1, 270)]
    assert max(by_weeks) <= 28 * pace * (1 + CATCH_UP) + largest
    assert min(by_weeks) >= 28 * pace - largest


def test_a_mass_ingest_into_an_archive_raises_the_load_once_and_for_all() -> None:
    archive = Archive(200)
    archive.store([GB] * 500)
    archive.live(150, 1)
    archive.store([GB] * 4000, "mass-")
    archive.live(150, 1)
    assert archive.late_days == []
    assert_even(archive, 152, 300)


def demand_of(copies: int, due_in_days: float, size: int = GB) -> list[DueDay]:
    return [DueDay(START + timedelta(days=due_in_days), Load(copies, copies * size))]


def due_copies(*sizes: int) -> list[DueCopy]:
    return [DueCopy(f"{number}", size, START) for number, size in enumerate(sizes)]


PLENTY = Credit(1e18, START)
PACE = pace_of(demand_of(10_000, 729), START, 730)


def test_what_was_not_begun_in_an_outage_does_not_begin_at_once() -> None:
    credit = credited(Credit(-5.0, START), PACE, START + 30 * DAY)
    chosen, left = choose(due_copies(*[GB] * 50), credit, PACE, Limits(100), Lately())
    assert len(chosen) == 1
    assert left.work < 0


def test_a_pace_that_lies_ahead_is_not_believed() -> None:
    """One run while the clock was a year ahead must not stop all checks for that year."""
    ahead = Credit(1e18, START + 365 * DAY)
    credit = credited(ahead, PACE, START)
    assert (credit.at, len(choose(due_copies(GB, GB), credit, PACE, Limits(100), Lately())[0])) == (START, 1)
    a_little = Credit(5.0, START + timedelta(minutes=2))
    assert credited(a_little, PACE, START).at == a_little.at, "clocks are put right a little all the time"


def test_the_limit_per_run_holds_and_the_rest_begins_with_the_next_run() -> None:
    chosen, left = choose(due_copies(*[GB] * 50), PLENTY, PACE, Limits(20), Lately())
    assert [copy.bag for copy in chosen] == [str(number) for number in range(20)]
    assert left.work > 0


def test_no_more_bytes_begin_in_a_day_than_allowed() -> None:
    limits = Limits(20, bytes_per_day=10 * GB)
    chosen, _ = choose(due_copies(*[3 * GB] * 5), PLENTY, PACE, limits, Lately(day=Load(1, 3 * GB)))
    assert len(chosen) == 2


def test_no_more_is_spent_in_a_month_than_allowed() -> None:
    limits = Limits(20, cost_per_month=1.0, cost_per_gb=0.1)
    chosen, _ = choose(due_copies(*[3 * GB] * 5), PLENTY, PACE, limits, Lately(month=Load(1, 4 * GB)))
    assert len(chosen) == 2


def test_a_copy_beyond_what_is_ever_allowed_holds_up_no_other_and_one_that_must_wait_is_not_overtaken() -> None:
    limits = Limits(20, bytes_per_day=10 * GB)
    chosen, _ = choose(due_copies(11 * GB, GB), PLENTY, PACE, limits, Lately())
    assert [copy.size for copy in chosen] == [GB]
    chosen, _ = choose(due_copies(9 * GB, GB), PLENTY, PACE, limits, Lately(day=Load(1, 2 * GB)))
    assert chosen == []


def test_nothing_more_begins_while_workers_are_away() -> None:
    chosen, _ = choose(due_copies(GB), PLENTY, PACE, Limits(20), Lately(unfinished_checks=44))
    assert chosen == []


def test_where_the_even_pace_would_be_late_it_is_as_quick_as_needed() -> None:
    demand = [*demand_of(1000, 50), *demand_of(1000, 700)]
    pace = pace_of(demand, START, 730)
    assert pace.is_hurried
    assert pace.per_day == pytest.approx(Load(1000, 1000 * GB).work / 50)
