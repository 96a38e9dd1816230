"""What is read from a peer, in the order in which records refer to each other, and how: in batches, read ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.registry.catalogue import BAGS, DIGESTS, FIXITY_CHECKS, INGESTS, MEMBERS, RESTORES, TRANSFERS, Kind
from dpn.registry.client import RegistryClient, RejectedRecord
from dpn.registry.records import Record
from models.registry import SetAsideRecord

T = TypeVar("T")

Rows = list[Any]
"""Records and RejectedRecords."""

BATCH = 1_000
"""Records a transaction: so many cost little more than one."""

PAGES_AHEAD = 10
"""How many pages may wait in memory, read while earlier ones are written: a batch."""


@dataclass(frozen=True)
class Walk:
    """One list of a peer's. Before those that it `needs` were read to their ends once, it is not worth reading."""

    name: str
    kind: Kind[Any]
    pages: Callable[..., Iterator[Rows]]
    filters: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    is_read_whole: bool = False
    """From the beginning, whenever anything changed: its stamps are of many clocks, and do not say what is new."""

    def batches(self, after: datetime | None) -> Iterator[Rows]:
        """What has changed since `after`, in batches; the peer is asked for more while one is worked on."""
        return in_batches(ahead(self.pages(after=after, **self.filters), PAGES_AHEAD), BATCH)

    def known_of(self, session: Session, peer: str) -> int:
        """How many of its records are here, or set aside. Only for lists that are the peer's alone."""
        conditions = [self.kind.condition(name, value) for name, value in self.filters.items()]
        aside = (SetAsideRecord.peer == peer) & (SetAsideRecord.kind == self.kind.name)
        here = session.scalar(select(func.count()).select_from(self.kind.table).where(*conditions))
        return (here or 0) + (session.scalar(select(func.count()).select_from(SetAsideRecord).where(aside)) or 0)


def walks(peer: str, client: RegistryClient) -> tuple[Walk, ...]:
    """All that is the peer's to say, what is referred to first."""
    bags = tuple(f"bag {letter}" for letter in "IRD")
    return (
        Walk("member", MEMBERS, client.list_members, is_read_whole=True),
        *(Walk(f"bag {x}", BAGS, client.list_bags, {"admin_node": peer, "bag_type": x}) for x in "IRD"),
        Walk("digest", DIGESTS, client.list_digests, {"node": peer}, bags),
        Walk("ingest", INGESTS, client.list_ingests, {}, bags),
        Walk("fixity_check", FIXITY_CHECKS, client.list_fixity_checks, {"node": peer}, bags),
        Walk("replicate", TRANSFERS, client.list_transfers, {"from_node": peer}, bags),
        Walk("restore", RESTORES, client.list_restores, {"to_node": peer}, bags),
    )


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
