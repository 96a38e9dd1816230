"""One clock: UTC, timezone-aware, injected. Tests and simulations move it; nothing else reads the time."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import ColumnElement, literal

from models.base import UtcDateTime, database_now


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """This moment, timezone-aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow, for measuring how long something took."""
        ...

    def in_database(self, after_seconds: float = 0.0) -> ColumnElement[datetime]:
        """The clock that leases are compared with, as SQL: the database's own, so that workers need not agree."""
        ...


class SystemClock:
    """The machine's clock; leases go by the database's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def in_database(self, after_seconds: float = 0.0) -> ColumnElement[datetime]:
        return database_now(after_seconds)


class ManualClock:
    """A clock that moves only when told to; the database is told its time."""

    def __init__(self, start: datetime = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._start = start

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        return (self.now() - self._start).total_seconds()

    def in_database(self, after_seconds: float = 0.0) -> ColumnElement[datetime]:
        return literal(self.now() + timedelta(seconds=after_seconds), UtcDateTime())
