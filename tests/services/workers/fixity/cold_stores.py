"""Folders that play a cold store: one answers as it is told to, one restores by the clock as Glacier does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dpn.clock import ManualClock
from dpn.errors import StoreCold
from dpn.storage.availability import Availability, RestoreRequested

CLASS = "GLACIER"
RESTORE_HOURS = 5


@dataclass
class ColdFolder:
    """A folder store whose files must be restored first; it answers, and fails, as the test says."""

    inner: Any
    says: Availability
    answers: list[RestoreRequested | Exception] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    """What the next retrievals end with."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    retrieved: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def availability(self, key: str, **_: Any) -> Availability:
        return self.says

    def request_restore(self, key: str, **options: Any) -> RestoreRequested:
        self.requests.append(options)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open_in_place(self, key: str) -> None:
        return None

    def retrieve(self, *arguments: Any, **options: Any) -> Any:
        if self.fails:
            raise self.fails.pop(0)
        self.retrieved += 1
        return self.inner.retrieve(*arguments, **options)


@dataclass
class SlowFolder:
    """A folder store that takes hours to restore a file, and keeps it readable for the days that were asked."""

    inner: Any
    clock: ManualClock
    asked_at: datetime | None = None
    days: int = 0
    billed: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def availability(self, key: str, **_: Any) -> Availability:
        found: Availability = self.inner.availability(key)
        if found.state == "missing":
            return found
        if self.asked_at is None:
            return Availability("cold", "not restored", None, CLASS)
        ready = self.asked_at + timedelta(hours=RESTORE_HOURS)
        until = ready + timedelta(days=self.days)
        if self.clock.now() < ready:
            return Availability("restoring", "a restore is under way", None, CLASS)
        if self.clock.now() < until:
            return Availability("available", f"restored until {until}", until, CLASS)
        return Availability("cold", "restored, which is over", None, CLASS)

    def request_restore(self, key: str, *, days: int, **_: Any) -> RestoreRequested:
        found = self.availability(key)
        if found.state == "restoring":
            return RestoreRequested("under-way", found.why, CLASS)
        assert found.state == "cold"
        self.asked_at, self.days = self.clock.now(), days
        self.billed += 1
        return RestoreRequested("accepted", "it begins", CLASS, asked=True)

    def open_in_place(self, key: str) -> None:
        return None

    def retrieve(self, key: str, *arguments: Any, **options: Any) -> Any:
        if self.availability(key).state in ("cold", "restoring"):
            raise StoreCold(f"{key} is cold")
        return self.inner.retrieve(key, *arguments, **options)
