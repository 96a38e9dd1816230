"""What a server remembers of the lists that it has shown: how much they held, and where pages ended."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")

MAX_COUNTS = 1000
MAX_TRAILS = 5000
"""Some 5 MB at the most."""


@dataclass(frozen=True)
class Counted:
    """What a list up to `before` holds, as it was counted `at` that moment in this state.

    `is_dear` says that it took long.
    """

    count: int
    size: int
    before: datetime | None
    state: str
    at: float
    is_dear: bool


@dataclass(frozen=True)
class Trail:
    """The sort key of the last record of a page as a reader was shown it; `state` is none if something had changed
    under its reader."""

    end: tuple[Any, ...]
    state: str | None
    at: float


class PageMemory:
    """What one server process remembers of the lists it has shown. Bounded; any number of threads may use it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: OrderedDict[Hashable, Counted] = OrderedDict()
        self._trails: OrderedDict[Hashable, Trail] = OrderedDict()

    def counted(self, of: Hashable) -> Counted | None:
        with self._lock:
            return self._counts.get(of)

    def keep_count(self, of: Hashable, counted: Counted) -> None:
        with self._lock:
            _keep(self._counts, of, counted, MAX_COUNTS)

    def trail(self, of: Hashable) -> Trail | None:
        with self._lock:
            return self._trails.get(of)

    def keep_trail(self, of: Hashable, trail: Trail) -> None:
        with self._lock:
            _keep(self._trails, of, trail, MAX_TRAILS)


def _keep(entries: OrderedDict[Hashable, T], key: Hashable, entry: T, limit: int) -> None:
    entries[key] = entry
    entries.move_to_end(key)
    if len(entries) > limit:
        entries.popitem(last=False)
