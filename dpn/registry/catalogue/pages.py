"""Lists records page by page, each page at the cost of a page, however deep it lies and however long the list is.

What a list holds is known from `totals` where its filters are among the kind's facets and its times leave out few
records; else it is counted. Without a memory a page costs that, and a walk over the index to where it begins. A
server keeps a `PageMemory`, and only the first page of a list costs as much:

- what was counted holds as long as the kind's state is the same (see `states`); of a list that ends at another
  time (`before`), only the difference is counted. Later pages of long lists may repeat it a little longer;
- the page after the one that the same reader was just shown begins behind its last record. In a registry that is
  not written to that is exactly where counting would lead; in one that is, the reader misses nothing that stays in
  the list, whatever joined it or left it before the page.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import Kind
from dpn.registry.catalogue.page_memory import PageMemory, ShownPage
from dpn.registry.catalogue.query import Query, RecordPage, conditions_of, order_of, records_of
from dpn.registry.catalogue.totals import size_of, size_sums, total, whole_size
from dpn.registry.records import Record

R = TypeVar("R", bound=Record)

FEW = 1000
"""So many records beyond the ends of a list are counted, to be taken from what its filters find in all."""

LONG = 10_000
STALE_SECONDS = 5.0
"""In a list of so many records a later page may repeat a count that is so old: counting 1,000,000
takes ten times as long as reading the page."""

WALK_SECONDS = 60.0
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
) -> RecordPage[R]:
    """Page `number` (from 1) of the records that `query` asks for, `size` records a page."""
    page = _Page(session, kind, query, number, size)
    reader = reader or Reader("nobody", "", PageMemory(time.monotonic))
    the_list = page.list_of(reader)
    shown = reader.memory.last(the_list)
    now = reader.memory.monotonic()
    counted = shown if shown and page.may_count_from(shown, reader) else None
    count, total = page.count_from(counted) if counted else page.count()
    behind = shown.end if shown and page.follows(shown, reader) else None
    records, has_next = page.rows(count, behind)
    if behind is None and page.shows_otherwise(count, records, has_next):
        count, total = page.count_between()
    end = tuple(getattr(records[-1], name) for name in page.order) if records else None
    state, counted_at = (counted.state, counted.counted_at) if counted else (reader.state, now)
    reader.memory.keep(the_list, ShownPage(query, number, size, state, count, total, counted_at, end, now))
    return page.listing(count, total, records, has_next)


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

    def list_of(self, reader: Reader) -> tuple[Hashable, ...]:
        """The same for lists of this reader's that hold the same records, but for `before`."""
        query = self.query
        latest_before = query.before if query.latest else None
        return (
            reader.name, self.kind.name, frozenset(query.where.items()), query.after, query.latest, latest_before
        )  # fmt: skip

    def may_count_from(self, shown: ShownPage, reader: Reader) -> bool:
        """Whether what that page's list held says what this one holds."""
        if shown.state == reader.state:
            return True
        is_first = self.number == 1 and self.query.before is None
        is_fresh = reader.memory.monotonic() - shown.counted_at < STALE_SECONDS
        return not is_first and shown.count >= LONG and is_fresh

    def follows(self, shown: ShownPage, reader: Reader) -> bool:
        """Whether this is the page after that, and asked for soon enough."""
        is_next = (shown.query, shown.page_size, shown.number + 1) == (self.query, self.size, self.number)
        is_soon = reader.memory.monotonic() - shown.shown_at < WALK_SECONDS
        return is_next and (shown.state == reader.state or is_soon)

    def listing(self, count: int, total: int, records: list[R], has_next: bool) -> RecordPage[R]:
        return RecordPage(count, total if self._has_sizes else None, records, has_next)

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

    def count_from(self, shown: ShownPage) -> tuple[int, int]:
        """The same, by the difference to a list that only ends elsewhere."""
        ours, theirs = self.query.before, shown.query.before
        if ours == theirs:
            return shown.count, shown.total_size
        if theirs is None or (ours is not None and ours < theirs):
            count, size = self.count_between(later_than=ours, until=theirs or LAST_TIME)
            return max(0, shown.count - count), max(0, shown.total_size - size)
        count, size = self.count_between(later_than=theirs, until=ours or LAST_TIME)
        return shown.count + count, shown.total_size + size

    def count_between(
        self, *, later_than: datetime | None = None, until: datetime | None = None
    ) -> tuple[int, int]:
        """The same, counted; with times, only of what the list holds between them."""
        after = self.query.after
        if later_than is not None and after is not None and after <= later_than:
            after = None  # of two lower ends SQLite would begin at the first
        conditions = conditions_of(self.kind, replace(self.query, after=after, before=until or self.query.before))
        if later_than is not None:
            conditions.append(self.kind.stamp > later_than)
        sizes = size_sums(self.kind.table.c.size) if self._has_sizes else ()
        statement = select(func.count(), *sizes).select_from(self.kind.table).where(*conditions)
        count, *halves = self.session.execute(statement).one()
        return count, whole_size(*halves) if halves else 0

    def rows(self, count: int, behind: tuple[Any, ...] | None) -> tuple[list[R], bool]:
        """The records of the page, and whether any follow it: those `behind` this sort key, or else where counting
        leads in a list of so many."""
        columns = [self.kind.table.c[name] for name in self.order]
        conditions = conditions_of(self.kind, self.query)
        newest_first = [column.desc() for column in columns]
        if behind is not None:
            statement = select(self.kind.table).where(*conditions, tuple_(*columns) < behind)
            found = self._records(statement.order_by(*newest_first).limit(self.size + 1))
        elif self.skipped >= max(count, 1):
            return [], False
        elif self.skipped > max(count // 2, FEW):
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
