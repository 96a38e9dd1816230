"""Lists records page by page, each page at the cost of a page, however deep it lies and however long the list is.

Without a memory a page costs a count of its list and a walk over the index to where it begins. A server keeps a
`PageMemory`, and only the first page of a list costs that:

- what was counted holds as long as the kind's state is the same (see `states`); of a list that ends at another
  time (`before`), only the difference is counted;
- the page after one that the same reader was shown begins behind its last record. While the state is the same that
  is exactly where counting would lead.

In a registry that is being written to, two things are given up where they would take long, and only there: a
later page may repeat a count that is up to `STALE_SECONDS` old, and a reader deep in a list goes on behind the
last record it was shown, though others may have joined or left before it. So it misses nothing that stays in the
list. Whether there is a next page is never taken from such a count.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, literal, select, tuple_
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import Kind
from dpn.registry.catalogue.reading import Listing, Query, conditions_of, order_of, records_of
from dpn.registry.records import Record

R = TypeVar("R", bound=Record)
T = TypeVar("T")

DEAR_SECONDS = 0.02
"""A count that took longer may be repeated for a while."""

DEAR_ROWS = 10_000
"""A list of fewer records is counted anew after every change; a reader no deeper is shown exactly the page."""

STALE_SECONDS = 5.0
TRAIL_SECONDS = 60.0
"""How long after a page its reader may ask for the next one and still go on behind it, whatever changed."""

LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""Later than any that a record may have."""

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


@dataclass(frozen=True)
class Reader:
    """Who reads; `state` is that of the kind, read before this page in the same session: see `state_of`."""

    name: str
    state: str
    memory: PageMemory


def list_page(
    session: Session, kind: Kind[R], query: Query, *, number: int, size: int, reader: Reader | None = None
) -> Listing[R]:
    """Page `number` (from 1) of the records that `query` asks for, `size` records a page."""
    page = _Page(session, kind, query, number, size)
    if reader is None:
        count, total = page.count()
        return page.listing(count, total, *page.rows(count, None))
    counted = _counted(page, reader)
    trail = _trail_to(page, reader)
    current_count = counted.count if counted.state == reader.state else None
    records, has_next = page.rows(current_count, trail.end if trail else None)
    if records:
        is_exact = trail is None or trail.state == reader.state
        end = tuple(getattr(records[-1], name) for name in page.order)
        left = Trail(end, reader.state if is_exact else None, reader.memory.monotonic())
        reader.memory.keep_trail(page.trail_key(reader, number), left)
    return page.listing(counted.count, counted.size, records, has_next)


@dataclass(frozen=True)
class _Page(Generic[R]):
    """One page of one list: what the database is asked for it."""

    session: Session
    kind: Kind[R]
    query: Query
    number: int
    size: int

    @property
    def skipped(self) -> int:
        return (self.number - 1) * self.size

    @property
    def order(self) -> tuple[str, ...]:
        return order_of(self.kind, self.query)

    @property
    def list_key(self) -> tuple[Hashable, ...]:
        """The same for lists that hold the same records, but for `before`."""
        query = self.query
        return (
            self.kind.name,
            frozenset(query.where.items()),
            query.after,
            (query.latest, query.before if query.latest else None),
        )

    def trail_key(self, reader: Reader, number: int) -> tuple[Hashable, ...]:
        query = self.query
        return (reader.name, self.list_key, query.before, query.latest, self.order, self.size, number)

    def listing(self, count: int, total: int, records: list[R], has_next: bool) -> Listing[R]:
        return Listing(count, total if self._has_sizes else None, records, has_next)

    def count(self, *, later_than: datetime | None = None, until: datetime | None = None) -> tuple[int, int]:
        """How many records the list holds, and their bytes; with times, only of what it holds between them."""
        conditions = conditions_of(self.kind, replace(self.query, before=until or self.query.before))
        if later_than is not None:
            conditions.append(self.kind.stamp > later_than)
        size = func.coalesce(func.sum(self.kind.table.c.size), 0) if self._has_sizes else literal(0)
        statement = select(func.count(), size).select_from(self.kind.table).where(*conditions)
        count, total = self.session.execute(statement).one()
        return count, int(total)

    def rows(self, count: int | None, behind: tuple[Any, ...] | None) -> tuple[list[R], bool]:
        """The records of the page, and whether any follow it: those `behind` this sort key, or else where counting
        leads. `count` is what the list holds now, where that is known."""
        if count is not None and self.skipped >= count:
            return [], False
        columns = [self.kind.table.c[name] for name in self.order]
        conditions = conditions_of(self.kind, self.query)
        newest_first = [column.desc() for column in columns]
        if behind is not None:
            statement = select(self.kind.table).where(*conditions, tuple_(*columns) < behind)
            found = self._records(statement.order_by(*newest_first).limit(self.size + 1))
        elif count is not None and self.skipped > count // 2:
            shown = min(self.size, count - self.skipped)  # the end of the list is nearer
            left = count - self.skipped - shown
            return self._skipping(left, shown, conditions, columns)[::-1], left > 0
        else:
            found = self._skipping(self.skipped, self.size + 1, conditions, newest_first)
        return found[: self.size], len(found) > self.size

    @property
    def _has_sizes(self) -> bool:
        return "size" in self.kind.table.c

    def _skipping(
        self,
        skipped: int,
        limit: int,
        conditions: Sequence[ColumnElement[bool]],
        order: Sequence[ColumnElement[Any]],
    ) -> list[R]:
        """The keys come from an index alone: of what is skipped no row is read."""
        key, names = self.kind.key, self.kind.record.KEY
        keys = select(*key).where(*conditions).order_by(*order).limit(limit).offset(skipped).subquery()
        same = [column == keys.c[name] for column, name in zip(key, names, strict=True)]
        return self._records(select(self.kind.table).join(keys, onclause=and_(*same)).order_by(*order))

    def _records(self, statement: Select[Any]) -> list[R]:
        return records_of(self.session, self.kind, self.session.execute(statement).mappings().all())


def _counted(page: _Page[R], reader: Reader) -> Counted:
    """What the list holds: as remembered, by the difference to what is remembered, or counted anew."""
    known = _known_count(page, reader)
    if known is None:
        started = reader.memory.monotonic()
        count, size = page.count()
        ended = reader.memory.monotonic()
        is_dear = count >= DEAR_ROWS and ended - started >= DEAR_SECONDS
        known = Counted(count, size, page.query.before, reader.state, ended, is_dear)
    elif known.before != page.query.before:
        known = _with_difference(page, known)
    reader.memory.keep_count((reader.name, page.list_key), known)
    if known.before is None:
        reader.memory.keep_count(page.list_key, known)
    return known


def _known_count(page: _Page[R], reader: Reader) -> Counted | None:
    """The count of this list, or of one that only ends elsewhere, that may be built on."""
    memory, before = reader.memory, page.query.before
    counts = [memory.counted((reader.name, page.list_key)), memory.counted(page.list_key)]
    is_first = page.number == 1 and before is None
    usable = [
        counted
        for counted in counts
        if counted is not None
        and (
            counted.state == reader.state
            or (counted.is_dear and not is_first and memory.monotonic() - counted.at < STALE_SECONDS)
        )
    ]
    usable.sort(key=lambda counted: (counted.state != reader.state, counted.before != before))
    return usable[0] if usable else None


def _with_difference(page: _Page[R], known: Counted) -> Counted:
    """`known`, ending where this list ends: only the records between the two ends are counted."""
    before = page.query.before
    if known.before is None or (before is not None and before < known.before):
        count, size = page.count(later_than=before, until=known.before or LAST_TIME)
        sign = -1
    else:
        count, size = page.count(later_than=known.before, until=before or LAST_TIME)
        sign = 1
    return replace(
        known, before=before, count=max(0, known.count + sign * count), size=max(0, known.size + sign * size)
    )


def _trail_to(page: _Page[R], reader: Reader) -> Trail | None:
    """Where the page before this one ended for this reader, if this one may begin there."""
    trail = reader.memory.trail(page.trail_key(reader, page.number - 1))
    if trail is None or trail.state == reader.state:
        return trail
    is_fresh = reader.memory.monotonic() - trail.at < TRAIL_SECONDS
    return trail if is_fresh and page.skipped >= DEAR_ROWS else None


def _keep(entries: OrderedDict[Hashable, T], key: Hashable, entry: T, limit: int) -> None:
    entries[key] = entry
    entries.move_to_end(key)
    if len(entries) > limit:
        entries.popitem(last=False)
