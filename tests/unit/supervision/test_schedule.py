"""Jobs are due at their times, whenever one looks: each time once, none left out."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.supervision.schedule import SUNDAY, Schedule, after_a_rest_of, daily, every

moments = st.datetimes(
    datetime(2024, 1, 1),  # noqa: DTZ001  (hypothesis adds the zone)
    datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
SCHEDULES = [every(5), every(5, after=2), daily(time(3, 17)), daily(time(5, 37), weekday=SUNDAY)]


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


@pytest.mark.parametrize(
    ("schedule", "moment", "due"),
    [
        (every(5), "2026-11-28T09:02:09", "2026-11-28T09:05:00"),
        (every(5), "2026-11-28T09:05:00", "2026-11-28T09:10:00"),
        (every(5), "2026-11-28T23:58:59", "2026-11-29T00:00:00"),
        (every(5, after=2), "2026-11-28T09:00:00", "2026-11-28T09:02:00"),
        (every(5, after=2), "2026-11-28T09:58:00", "2026-11-28T10:02:00"),
        (daily(time(3, 17)), "2026-11-28T03:16:59", "2026-11-28T03:17:00"),
        (daily(time(3, 17)), "2026-11-28T03:17:00", "2026-11-29T03:17:00"),
        (daily(time(5, 37), weekday=SUNDAY), "2026-11-28T09:00:00", "2026-11-29T05:37:00"),
        (daily(time(5, 37), weekday=SUNDAY), "2026-11-29T05:37:00", "2026-12-06T05:37:00"),
        (after_a_rest_of(2), "2026-11-28T09:00:00", "2026-11-28T09:00:02"),
    ],
)
def test_the_next_time_is_the_first_one_after_the_moment(schedule: Schedule, moment: str, due: str) -> None:
    assert schedule(at(moment)) == at(due)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(moments)
def test_between_a_moment_and_the_next_time_there_is_no_other(schedule: Schedule, moment: datetime) -> None:
    due = schedule(moment)
    assert due > moment
    assert schedule(due - timedelta(microseconds=1)) == due
