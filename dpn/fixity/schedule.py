"""Which checks begin now: the copy that is due first, evenly over the days, within the operator's limits. Pure.

A round over all copies is paced so that it takes a little less than the promised time: whatever comes at once is
spread over the round, early rather than late, and an outage of that little does no harm. When copies still come to
be due sooner than the even pace reaches them, the pace is as much quicker as needed. What the pace counts is work:
a copy's bytes, and what any check costs beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

ROUND = 0.955
"""The part of the promised time that a round over all copies takes: of 730 days, 33 are left for outages."""

CATCH_UP = 0.045
"""By how much the even pace is raised at most to win back the time that an outage took."""

SHORT_TERM = 0.04
"""Of the promised time: what is due sooner than this, or overdue, is spread over this: no night is heavy."""

CHECK_OVERHEAD_BYTES = 100_000_000
"""Asking for a copy, staging it and recording its check is as much work as reading so much of it."""

DAY = timedelta(days=1)
LONGEST_PAUSE = 1.5 * DAY
"""When nobody asked for so long what may begin, it was an outage: what it missed does not begin at once."""

AHEAD = timedelta(minutes=10)
"""What lies so far ahead of now was written while a clock was wrong."""

BYTES_PER_GB = 1_000_000_000
COST_WINDOW_DAYS = 30


@dataclass(frozen=True)
class Load:
    """Some checks, and the bytes that they read."""

    checks: int = 0
    bytes: int = 0

    @property
    def work(self) -> int:
        return self.bytes + self.checks * CHECK_OVERHEAD_BYTES

    def __add__(self, other: Load) -> Load:
        return Load(self.checks + other.checks, self.bytes + other.bytes)


@dataclass(frozen=True)
class DueCopy:
    """A copy that may be checked, and when that must begin at the latest."""

    bag: str
    size: int
    due_at: datetime

    @property
    def load(self) -> Load:
        return Load(1, self.size)


@dataclass(frozen=True)
class DueDay:
    """What is due on a day; `day` is its beginning."""

    day: datetime
    load: Load


@dataclass(frozen=True)
class Limits:
    """What the operator allows; none: any amount."""

    checks_per_run: int
    bytes_per_day: int | None = None
    cost_per_month: float | None = None
    cost_per_gb: float = 0.0
    bytes_per_month: int | None = None

    def cost(self, size: float) -> float:
        """Of getting so many bytes out of cold storage."""
        return size / BYTES_PER_GB * self.cost_per_gb

    @property
    def largest_copy(self) -> int | None:
        """The bytes of the largest copy that can ever be checked within these limits; none: any."""
        bounds = [] if self.bytes_per_day is None else [self.bytes_per_day]
        if self.cost_per_month is not None and self.cost_per_gb > 0:
            bounds.append(int(self.cost_per_month / self.cost_per_gb * BYTES_PER_GB))
        if self.bytes_per_month is not None:
            bounds.append(self.bytes_per_month)
        return min(bounds, default=None)


@dataclass(frozen=True)
class Lately:
    """What has begun already: in the last 24 hours, in the last 30 days, and what has not ended yet."""

    day: Load = Load()
    month: Load = Load()
    unfinished_checks: int = 0


@dataclass(frozen=True)
class Pace:
    """How quickly checks begin, in work a day: `even` for all copies in turn, `needed` for what is due soonest."""

    even: float
    needed: float
    checks_per_day: float

    @property
    def per_day(self) -> float:
        return max(self.even, self.needed)

    @property
    def is_hurried(self) -> bool:
        """Whether the even pace is not enough."""
        return self.needed > self.even


@dataclass(frozen=True)
class Credit:
    """Work that may begin as of `at`; negative: more was begun, and is waited for."""

    work: float = 0.0
    at: datetime | None = None


def pace_of(demand: Sequence[DueDay], now: datetime, every_days: float) -> Pace:
    """The pace for copies that are due as `demand` (oldest first) says, all copies together."""
    total = Load(sum(one.load.checks for one in demand), sum(one.load.bytes for one in demand))
    round_days = every_days * ROUND
    even = total.work / round_days
    reached = now + timedelta(days=every_days - round_days)
    behind = sum(one.load.work for one in demand if one.day + DAY <= reached)
    even += min(behind / round_days, even * CATCH_UP)
    needed, so_far = 0.0, 0
    for one in demand:
        so_far += one.load.work
        days_left = max((one.day - now) / DAY, every_days * SHORT_TERM)
        needed = max(needed, so_far / days_left)
    return Pace(even, needed, total.checks / round_days)


def credited(credit: Credit, pace: Pace, now: datetime) -> Credit:
    """The credit at `now`. After an outage, and while a limit stops everything, it does not pile up.

    One that lies further ahead than clocks are put right begins anew: it would stop all checks until its time.
    """
    if credit.at is None or credit.at > now + AHEAD:
        return Credit(_a_little(pace), now)
    passed = max(now - credit.at, timedelta())
    work = credit.work + pace.per_day * (passed / DAY)
    most = pace.per_day * max(passed / DAY, 1.0)
    if passed > LONGEST_PAUSE:
        most = pace.per_day if pace.is_hurried else _a_little(pace)
    return Credit(min(work, most), max(now, credit.at))


def choose(
    due: Iterable[DueCopy], credit: Credit, pace: Pace, limits: Limits, lately: Lately
) -> tuple[list[DueCopy], Credit]:
    """The checks that begin now, of copies that are due oldest first; and what is left of the credit.

    A copy that is larger than the limits ever allow is passed over, so that it holds up no other; one that has to
    wait for them is waited for, so that small ones do not overtake it for ever.
    """
    chosen: list[DueCopy] = []
    for copy in _small_enough(due, limits):
        if credit.work <= 0 or not _is_allowed(copy, len(chosen), limits, lately, pace):
            break
        chosen.append(copy)
        credit = replace(credit, work=credit.work - copy.load.work)
        lately = Lately(lately.day + copy.load, lately.month + copy.load, lately.unfinished_checks + 1)
    return chosen, credit


UNFINISHED_DAYS = 3
"""Checks of so many days may be under way: cold storage takes two. Beyond that their workers are away."""


def _is_allowed(copy: DueCopy, chosen: int, limits: Limits, lately: Lately, pace: Pace) -> bool:
    if chosen >= limits.checks_per_run:
        return False
    if lately.unfinished_checks >= max(limits.checks_per_run, UNFINISHED_DAYS * pace.checks_per_day):
        return False
    if limits.bytes_per_day is not None and lately.day.bytes + copy.size > limits.bytes_per_day:
        return False
    if limits.bytes_per_month is not None and lately.month.bytes + copy.size > limits.bytes_per_month:
        return False
    spent = limits.cost(lately.month.bytes + copy.size)
    return limits.cost_per_month is None or spent <= limits.cost_per_month


def _small_enough(due: Iterable[DueCopy], limits: Limits) -> Iterator[DueCopy]:
    largest = limits.largest_copy
    return (copy for copy in due if largest is None or copy.size <= largest)


def _a_little(pace: Pace) -> float:
    """Enough for one check to begin; its work is owed."""
    return min(1.0, pace.per_day)
