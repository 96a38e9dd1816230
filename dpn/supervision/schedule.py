"""When a job runs next, as seen from a moment: functions of values. Times of day are UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta

SUNDAY = 6
"""As datetime.weekday() counts."""

Schedule = Callable[[datetime], datetime]
"""The first moment after the given one at which the job is due."""


def every(minutes: int, *, after: int = 0) -> Schedule:
    """At the full hour and every so many minutes from there, each time `after` minutes later.

    `minutes` divides an hour.
    """
    step, first = timedelta(minutes=minutes), timedelta(minutes=after)

    def following(moment: datetime) -> datetime:
        hour = moment.replace(minute=0, second=0, microsecond=0)
        return hour + first + step * ((moment - hour - first) // step + 1)

    return following


def daily(at: time, *, weekday: int | None = None) -> Schedule:
    """Each day at this time, or each week on that day."""

    def following(moment: datetime) -> datetime:
        due = datetime.combine(moment.date(), at, moment.tzinfo)
        while due <= moment or weekday not in (None, due.weekday()):
            due += timedelta(days=1)
        return due

    return following


def after_a_rest_of(seconds: float) -> Schedule:
    """Again and again, so long after the end of the run before."""
    return lambda moment: moment + timedelta(seconds=seconds)
