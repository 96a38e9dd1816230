"""What a server remembers of the lists that it has shown: the last page of each, for each of its readers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from dpn.registry.catalogue.query import Query

MAX_PAGES = 1000
"""Some 1 MB at the most."""


@dataclass(frozen=True)
class ShownPage:
    """A page as a reader was shown it, and what the list up to `query.before` held when that was counted."""

    query: Query
    number: int
    page_size: int
    state: str
    """That of the kind when the list was counted."""

    count: int
    total_size: int
    counted_at: float
    end: tuple[Any, ...] | None
    """The sort key of its last record; None where it had none."""

    shown_at: float


class PageMemory:
    """What one server process remembers. Bounded; any number of threads may use it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._pages: OrderedDict[Hashable, ShownPage] = OrderedDict()

    def last(self, of: Hashable) -> ShownPage | None:
        with self._lock:
            return self._pages.get(of)

    def keep(self, of: Hashable, page: ShownPage) -> None:
        with self._lock:
            self._pages[of] = page
            self._pages.move_to_end(of)
            if len(self._pages) > MAX_PAGES:
                self._pages.popitem(last=False)
