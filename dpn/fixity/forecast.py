"""What fixity checks will come to: the load of the coming days, and whether the promise can be kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dpn.fixity.schedule import COST_WINDOW_DAYS, DAY, ROUND, DueDay, Limits, Load, pace_of


@dataclass(frozen=True)
class PlannedDay:
    """What will probably begin on a day, and what its bytes cost to get out of cold storage."""

    day: datetime
    checks: float
    bytes: float
    cost: float


@dataclass(frozen=True)
class LimitNeed:
    """A limit, by its setting: what it is, what the promise takes at least, and with time in hand for outages."""

    setting: str
    limit: float
    needed: float
    advised: float

    @property
    def is_enough(self) -> bool:
        return self.limit >= self.needed


@dataclass(frozen=True)
class Plan:
    """See the module's docstring. `overdue` and `too_large` break the promise whatever the pace."""

    copies: Load
    overdue: Load
    largest: int
    is_too_large: bool
    days: tuple[PlannedDay, ...]
    limits: tuple[LimitNeed, ...]

    @property
    def is_kept(self) -> bool:
        return not self.overdue.checks and not self.is_too_large and all(need.is_enough for need in self.limits)


def plan(
    demand: Sequence[DueDay], limits: Limits, *, now: datetime, every_days: float, days: int, runs_per_day: float,
    largest: int,
) -> Plan:  # fmt: skip
    """The plan for copies that are due as `demand` says, oldest first; `largest`: the bytes of the largest one."""
    overdue = _sum(one for one in demand if one.day + DAY <= now)
    return Plan(
        copies=_sum(demand),
        overdue=overdue,
        largest=largest,
        is_too_large=limits.largest_copy is not None and largest > limits.largest_copy,
        days=tuple(_coming(list(demand), limits, now, every_days, days, runs_per_day)),
        limits=tuple(_needs(demand, limits, now, every_days, runs_per_day)),
    )


def _coming(
    demand: list[DueDay], limits: Limits, now: datetime, every_days: float, days: int, runs_per_day: float
) -> list[PlannedDay]:
    """Day by day what the pace takes from the front of what is due, as far as the limits let it."""
    coming = []
    for number in range(days):
        at = now + number * DAY
        left = pace_of(demand, at, every_days).per_day
        most_checks, most_bytes = limits.checks_per_run * runs_per_day, _bytes_per_day(limits)
        checks = size = 0.0
        while demand and left > 0:
            first = demand[0]
            part = min(
                1.0,
                left / first.load.work,
                (most_checks - checks) / first.load.checks,
                1.0 if most_bytes is None or not first.load.bytes else (most_bytes - size) / first.load.bytes,
            )
            checks, size = checks + part * first.load.checks, size + part * first.load.bytes
            if part < 1.0:
                rest = Load(round(first.load.checks * (1 - part)), round(first.load.bytes * (1 - part)))
                demand[0] = DueDay(first.day, rest)
                if not rest.checks:
                    demand.pop(0)
                break
            left -= first.load.work
            demand.pop(0)
        demand.append(DueDay(at + every_days * DAY, Load(round(checks), round(size))))
        coming.append(PlannedDay(at, checks, size, limits.cost(size)))
    return coming


def _needs(
    demand: Sequence[DueDay], limits: Limits, now: datetime, every_days: float, runs_per_day: float
) -> list[LimitNeed]:
    checks = _most_per_day([(one.day, one.load.checks) for one in demand], now, every_days)
    size = _most_per_day([(one.day, one.load.bytes) for one in demand], now, every_days)
    needs = [
        LimitNeed(
            "fixity.max_checks_per_run",
            limits.checks_per_run,
            checks / runs_per_day,
            checks / ROUND / runs_per_day,
        )
    ]
    if limits.bytes_per_day is not None:
        needs.append(LimitNeed("fixity.max_bytes_per_day", limits.bytes_per_day, size, size / ROUND))
    if limits.cost_per_month is not None:
        cost = limits.cost(size * COST_WINDOW_DAYS)
        needs.append(LimitNeed("fixity.max_retrieval_cost_per_month", limits.cost_per_month, cost, cost / ROUND))
    if limits.bytes_per_month is not None:
        month = size * COST_WINDOW_DAYS
        needs.append(LimitNeed("fixity.max_cold_bytes_per_month", limits.bytes_per_month, month, month / ROUND))
    return needs


def _most_per_day(amounts: Sequence[tuple[datetime, int]], now: datetime, every_days: float) -> float:
    """So much a day that all is begun in time; what is due within a day, or overdue, within a day."""
    most, so_far = sum(amount for _, amount in amounts) / every_days, 0
    for day, amount in amounts:
        so_far += amount
        most = max(most, so_far / max((day + DAY - now) / DAY, 1.0))
    return most


def _bytes_per_day(limits: Limits) -> float | None:
    """The tightest of the limits that go by bytes, as bytes a day."""
    bounds: list[float] = [] if limits.bytes_per_day is None else [limits.bytes_per_day]
    if limits.cost_per_month is not None and limits.cost_per_gb > 0:
        bounds.append(limits.cost_per_month / limits.cost(1) / COST_WINDOW_DAYS)
    if limits.bytes_per_month is not None:
        bounds.append(limits.bytes_per_month / COST_WINDOW_DAYS)
    return min(bounds, default=None)


def _sum(days: Iterable[DueDay]) -> Load:
    total = Load()
    for one in days:
        total += one.load
    return total
