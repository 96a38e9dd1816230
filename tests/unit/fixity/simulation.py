"""Years of fixity checks in seconds: the real scheduler's functions over copies that are only values."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dpn.fixity.schedule import Credit, DueCopy, DueDay, Lately, Limits, Load, choose, credited, pace_of

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Archive:
    """Copies and their checks; a check ends when it begins. `days` is the work of each day."""

    every_days: float
    limits: Limits = field(default_factory=lambda: Limits(checks_per_run=100))
    now: datetime = START
    credit: Credit = field(default_factory=Credit)
    due: list[tuple[datetime, str, int]] = field(default_factory=list)
    by_day: dict[datetime, Load] = field(default_factory=lambda: defaultdict(Load))
    days: dict[int, Load] = field(default_factory=lambda: defaultdict(Load))
    late_days: list[float] = field(default_factory=list)
    """By how much each late check began late."""
    checks: Counter[str] = field(default_factory=Counter)

    def store(self, sizes: Iterable[int], prefix: str = "") -> None:
        for number, size in enumerate(sizes):
            self._add(f"{prefix}{number:08d}", size, self.now + timedelta(days=self.every_days))

    def live(self, days: int, runs_a_day: int, *, away: Callable[[int], bool] = lambda _: False,
             each_day: Callable[[Archive, int], None] = lambda *_: None) -> None:  # fmt: skip
        """So many days of `dpn_queue`, none on those days that it is `away`."""
        first = self.day
        for day in range(first, first + days):
            each_day(self, day)
            for run in range(runs_a_day):
                self.now = START + day * DAY + run * DAY / runs_a_day
                if not away(day):
                    self.run()
        self.now = START + (first + days) * DAY

    def run(self) -> None:
        demand = [DueDay(day, load) for day, load in sorted(self.by_day.items()) if load.checks]
        pace = pace_of(demand, self.now, self.every_days)
        self.credit = credited(self.credit, pace, self.now)
        if self.credit.work <= 0:
            return
        candidates = [DueCopy(bag, size, due) for due, bag, size in heapq.nsmallest(
            self.limits.checks_per_run, self.due)]  # fmt: skip
        chosen, self.credit = choose(candidates, self.credit, pace, self.limits, Lately())
        for copy in chosen:
            self._check(copy)

    @property
    def day(self) -> int:
        return (self.now - START) // DAY

    def _check(self, copy: DueCopy) -> None:
        self._remove(copy)
        if self.now > copy.due_at:
            self.late_days.append((self.now - copy.due_at) / DAY)
        self.days[self.day] += copy.load
        self.checks[copy.bag] += 1
        self._add(copy.bag, copy.size, self.now + timedelta(days=self.every_days))

    def _add(self, bag: str, size: int, due: datetime) -> None:
        heapq.heappush(self.due, (due, bag, size))
        self.by_day[_start(due)] += Load(1, size)

    def _remove(self, copy: DueCopy) -> None:
        if self.due[0] == (copy.due_at, copy.bag, copy.size):
            heapq.heappop(self.due)
        else:
            self.due.remove((copy.due_at, copy.bag, copy.size))
            heapq.heapify(self.due)
        day, load = _start(copy.due_at), copy.load
        left = self.by_day[day]
        self.by_day[day] = Load(left.checks - load.checks, left.bytes - load.bytes)

    def loads(self, first: int, last: int) -> list[Load]:
        return [self.days[day] for day in range(first, last)]


def _start(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
