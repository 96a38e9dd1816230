"""What a peer's lists hold, in batches worth a transaction each, and read ahead while one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from dpn.registry.client.rows import RejectedRecord
from dpn.registry.records import Record

T = TypeVar("T")

Rows = list[Any]
"""Records and RejectedRecords."""

PAGES_AHEAD = 10
"""How many pages may wait in memory, read while earlier ones are written: a batch."""


def records_of(rows: Rows) -> list[Record]:
    return [row for row in rows if isinstance(row, Record)]


def unusable_of(rows: Rows) -> list[RejectedRecord]:
    return [row for row in rows if isinstance(row, RejectedRecord)]


def in_batches(pages: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The same rows, at least `size` at a time but for the last. Pages that break off lose nothing before that."""
    batch: Rows = []
    try:
        for page in pages:
            batch += page
            if len(batch) >= size:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def ahead(source: Iterable[T], most: int) -> Iterator[T]:
    """The same, in the same order, made by a thread of its own that is never more than `most` ahead."""
    made: queue.Queue[_Made[T]] = queue.Queue(most)
    stopped = threading.Event()

    def make() -> None:
        end: _Made[T] = _Made(None, is_end=True)
        try:
            for one in source:
                made.put(_Made(one))
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  (raised again where the source would have been read)
            end = _Made(None, is_end=True, error=error)
        made.put(end)

    threading.Thread(target=make, name="reads ahead", daemon=True).start()
    try:
        while not (next_one := made.get()).is_end:
            yield cast("T", next_one.value)
        if next_one.error is not None:
            raise next_one.error
    finally:
        stopped.set()
        with suppress(queue.Empty):  # room for what is just being made, and the thread sees that it is over
            while True:
                made.get_nowait()


@dataclass(frozen=True)
class _Made(Generic[T]):
    value: T | None
    is_end: bool = False
    error: BaseException | None = None
