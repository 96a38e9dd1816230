"""Finds records by key, says what a query asks for, and walks through all records in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, RowMapping, func, select, tuple_
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import BAGS, REPLICAS, Kind
from dpn.registry.records import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Query:
    """Which records, and in which order.

    `after` and `before` are inclusive (times have whole seconds: what changed later in a second that was already
    read must show again). `order_by` names times, newest first; lists without it go by the time that `after`
    compares, and ties by key, so that pages of a list fit together. `latest` keeps, of what the rest lets through,
    the newest for each of the kind's `one_of_each`.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    after: datetime | None = None
    before: datetime | None = None
    order_by: tuple[str, ...] = ()
    latest: bool = False

    def also(self, where: Mapping[str, Any]) -> Query:
        """The same, with further filters."""
        return replace(self, where={**self.where, **where})


@dataclass(frozen=True)
class RecordPage(Generic[R]):
    """One page, and how much the whole list holds; `total_size` is in bytes, None where records have no size."""

    count: int
    total_size: int | None
    records: list[R]
    has_next: bool = False


def find(
    session: Session, kind: Kind[R], *key: str, lock: bool = False, where: Mapping[str, Any] | None = None
) -> R | None:
    """The record with this key; with `lock` nobody else may change it until this transaction ends."""
    return find_many(session, kind, [key], lock=lock, where=where).get(key)


def find_many(
    session: Session,
    kind: Kind[R],
    keys: Iterable[tuple[str, ...]],
    *,
    lock: bool = False,
    where: Mapping[str, Any] | None = None,
) -> dict[tuple[str, ...], R]:
    """Those of the records that there are and that the filters `where` let through, by key."""
    wanted = set(keys)
    if not wanted:
        return {}
    # By the key's first column: the few others (a bag's digests) are not worth a comparison of tuples.
    conditions = conditions_of(kind, Query(where or {}))
    statement = select(kind.table).where(kind.key[0].in_({key[0] for key in wanted}), *conditions)
    if lock:
        statement = statement.order_by(*kind.key).with_for_update()
    found = {
        record.key: record for record in records_of(session, kind, session.execute(statement).mappings().all())
    }
    return {key: found[key] for key in wanted & found.keys()}


def batches(
    session: Session, kind: Kind[R], where: Mapping[str, Any] | None = None, *, size: int = 500
) -> Iterator[list[R]]:
    """All records that match, in the order of their keys, `size` at a time. What changes meanwhile may show."""
    conditions = conditions_of(kind, Query(where or {}))
    last: tuple[str, ...] | None = None
    while True:
        statement = select(kind.table).where(*conditions).order_by(*kind.key).limit(size)
        if last is not None:
            statement = statement.where(tuple_(*kind.key) > last)
        records = records_of(session, kind, session.execute(statement).mappings().all())
        if records:
            yield records
        if len(records) < size:
            return
        last = records[-1].key


def replicas_of(session: Session, bags: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The nodes that hold each of these bags, in the order of the alphabet."""
    nodes: dict[str, list[str]] = defaultdict(list)
    statement = select(REPLICAS).where(REPLICAS.c.bag.in_(list(bags))).order_by(REPLICAS.c.bag, REPLICAS.c.node)
    for bag, node in session.execute(statement):
        nodes[bag].append(node)
    return {bag: tuple(names) for bag, names in nodes.items()}


def records_of(session: Session, kind: Kind[R], rows: Sequence[RowMapping]) -> list[R]:
    """The records in these rows."""
    if kind.table is not BAGS.table or not rows:
        return [kind.read(row) for row in rows]
    replicas = replicas_of(session, [row["uuid"] for row in rows])
    return [kind.read(row, replicating_nodes=replicas.get(row["uuid"], ())) for row in rows]


def conditions_of(kind: Kind[R], query: Query) -> list[ColumnElement[bool]]:
    """What the records that `query` asks for meet."""
    conditions = [kind.condition(name, value) for name, value in query.where.items()]
    if query.after is not None:
        conditions.append(kind.stamp >= query.after)
    if query.before is not None:
        conditions.append(kind.stamp <= query.before)
    return [_is_latest(kind, conditions)] if query.latest else conditions


def order_of(kind: Kind[R], query: Query) -> tuple[str, ...]:
    """The columns that the list is ordered by, all of them descending; together they are unique."""
    times = [name for name in query.order_by if name in kind.table.c] or [kind.record.STAMP]
    return (*dict.fromkeys(times), *kind.record.KEY)


def _is_latest(kind: Kind[R], conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Newest first by stamp, by key where that is equal; among those that meet the conditions."""
    groups = [kind.table.c[name] for name in kind.one_of_each]
    newest_first = [kind.stamp.desc(), *(column.desc() for column in kind.key)]
    place = func.row_number().over(partition_by=groups, order_by=newest_first).label("place")
    ranked = select(*kind.key, place).where(*conditions).subquery()
    newest = select(*(ranked.c[name] for name in kind.record.KEY)).where(ranked.c.place == 1)
    return tuple_(*kind.key).in_(newest)
