"""Lists records page by page, each page at the cost of a page, however deep it lies and however long the list is.

What a list holds is known from `totals` where its filters are among the kind's facets and its times leave out few
records; else it is counted. Without a memory a page costs that, and a walk over the index to where it begins. A
server keeps a `PageMemory`, and only the first page of a list costs as much:

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

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import Kind
from dpn.registry.catalogue.page_memory import Counted, PageMemory, Trail
from dpn.registry.catalogue.query import Listing, Query, conditions_of, order_of, records_of
from dpn.registry.catalogue.totals import size_of, size_sums, total, whole_size
from dpn.registry.records import Record

R = TypeVar("R", bound=Record)

DEAR_SECONDS = 0.02
"""A count that took longer may be repeated for a while."""

DEAR_ROWS = 10_000
"""A list of fewer records is counted anew after every change; a reader no deeper is shown exactly the page."""

FEW = 1000
"""So many records beyond the ends of a list are counted, to be taken from what its filters find in all."""

STALE_SECONDS = 5.0
TRAIL_SECONDS = 60.0
"""How long after a page its reader may ask for the next one and still go on behind it, whatever changed."""

LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""Later than any that a record may have."""


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
        records, has_next = page.rows(count, None)
        if page.shows_otherwise(count, records, has_next):
            count, total = page.count_between()
        return page.listing(count, total, records, has_next)
    counted = _counted(page, reader)
    trail = _trail_to(page, reader)
    current_count = counted.count if counted.state == reader.state else None
    records, has_next = page.rows(current_count, trail.end if trail else None)
    if current_count is not None and trail is None and page.shows_otherwise(current_count, records, has_next):
        counted = _counted_anew(page, reader)
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

    def count(self) -> tuple[int, int]:
        """How many records the list holds, and their bytes."""
        known = None if self.query.latest else total(self.session, self.kind, self.query.where)
        if known is None:
            return self.count_between()
        for beyond in self._ends():
            left_out, size = self._count_few(beyond)
            if left_out > FEW:
                return self.count_between()
            known = (max(0, known[0] - left_out), max(0, known[1] - size))
        return known

    def count_between(
        self, *, later_than: datetime | None = None, until: datetime | None = None
    ) -> tuple[int, int]:
        """The same, counted; with times, only of what the list holds between them."""
        conditions = conditions_of(self.kind, replace(self.query, before=until or self.query.before))
        if later_than is not None:
            conditions.append(self.kind.stamp > later_than)
        sizes = size_sums(self.kind.table.c.size) if self._has_sizes else ()
        statement = select(func.count(), *sizes).select_from(self.kind.table).where(*conditions)
        count, *halves = self.session.execute(statement).one()
        return count, whole_size(*halves) if halves else 0

    def rows(self, count: int | None, behind: tuple[Any, ...] | None) -> tuple[list[R], bool]:
        """The records of the page, and whether any follow it: those `behind` this sort key, or else where counting
        leads. `count` is what the list holds now, where that is known."""
        if count is not None and self.skipped >= max(count, 1):
            return [], False
        columns = [self.kind.table.c[name] for name in self.order]
        conditions = conditions_of(self.kind, self.query)
        newest_first = [column.desc() for column in columns]
        if behind is not None:
            statement = select(self.kind.table).where(*conditions, tuple_(*columns) < behind)
            found = self._records(statement.order_by(*newest_first).limit(self.size + 1))
        elif count is not None and self.skipped > max(count // 2, FEW):
            shown = min(self.size, count - self.skipped)  # the end of the list is nearer
            left = count - self.skipped - shown
            return self._skipping(left, shown, conditions, columns)[::-1], left > 0
        else:
            found = self._skipping(self.skipped, self.size + 1, conditions, newest_first)
        return found[: self.size], len(found) > self.size

    def shows_otherwise(self, count: int, records: Sequence[R], has_next: bool) -> bool:
        """Whether the page does not end where `count` says: then the database was changed past us, and the list
        has to be counted (see `totals.recount`)."""
        shown = self.skipped + len(records)
        is_last = not has_next and (bool(records) or self.number == 1)
        return shown > count or (is_last and shown != count)

    def _ends(self) -> list[ColumnElement[bool]]:
        """What lies before the time that the list begins with, and after the one that it ends with."""
        stamp, query = self.kind.stamp, self.query
        early = [] if query.after is None else [stamp < query.after]
        return early if query.before is None else [*early, stamp > query.before]

    def _count_few(self, beyond: ColumnElement[bool]) -> tuple[int, int]:
        """How many records the filters find there, and their bytes; no more than one above FEW."""
        conditions = conditions_of(self.kind, Query(self.query.where))
        few = select(size_of(self.kind).label("size")).where(*conditions, beyond).limit(FEW + 1).subquery()
        count, high, low = self.session.execute(
            select(func.count(), *size_sums(few.c.size)).select_from(few)
        ).one()
        return count, whole_size(high, low)

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
        return _keep(page, reader, _timed_count(page, reader, page.count))
    if known.before != page.query.before:
        known = _with_difference(page, known)
    return _keep(page, reader, known)


def _counted_anew(page: _Page[R], reader: Reader) -> Counted:
    return _keep(page, reader, _timed_count(page, reader, page.count_between))


def _timed_count(page: _Page[R], reader: Reader, count: Callable[[], tuple[int, int]]) -> Counted:
    started = reader.memory.monotonic()
    records, size = count()
    ended = reader.memory.monotonic()
    is_dear = records >= DEAR_ROWS and ended - started >= DEAR_SECONDS
    return Counted(records, size, page.query.before, reader.state, ended, is_dear)


def _keep(page: _Page[R], reader: Reader, counted: Counted) -> Counted:
    reader.memory.keep_count((reader.name, page.list_key), counted)
    if counted.before is None:
        reader.memory.keep_count(page.list_key, counted)
    return counted


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
        count, size = page.count_between(later_than=before, until=known.before or LAST_TIME)
        sign = -1
    else:
        count, size = page.count_between(later_than=known.before, until=before or LAST_TIME)
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
