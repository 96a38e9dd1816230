"""How many records lists hold, kept with every change, so that no reader has to count a million of them.

Records of a kind are counted by its facets: the few columns with few values that lists are filtered by. Whoever
writes records adds rows of what changes, in the same transaction (no row is ever updated, so writers do not wait
for each other); what stands in the table is always what counting would say. At the end of some commits the rows of
a kind are added up, to one for all records whose facets are the same.

Where a peer's records have so many values that there is nothing to be gained, lists are counted.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import BigInteger, ColumnElement, Table, delete, func, insert, literal, select, text
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import KINDS, Kind
from dpn.registry.records import Record
from models.registry import ListTotal

R = TypeVar("R", bound=Record)

TOTALS = cast("Table", ListTotal.__table__)

ADDED_UP_EVERY = 64
"""Rows, about."""

MAX_ROWS = 20_000
"""Reading so many takes some 50 ms: what has more is counted."""

HALF = 2**32

CROWDED = "dpn.crowded_totals"

Facets = tuple[Any, ...]
Totals = dict[str, tuple[int, int]]
"""Records and bytes by facets, as text."""


def total(session: Session, kind: Kind[Any], where: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many records of the kind have these values, and their bytes; None where only counting can tell."""
    if kind.facets is None or not where.keys() <= set(kind.facets):
        return None
    statement = select(TOTALS.c.facets, TOTALS.c.records, TOTALS.c.bytes).where(TOTALS.c.kind == kind.name)
    rows = session.execute(statement.limit(MAX_ROWS + 1)).all()
    if len(rows) > MAX_ROWS:
        return None
    wanted = [(kind.facets.index(name), value) for name, value in where.items()]
    records = size = 0
    for facets, row_records, row_bytes in rows:
        values = json.loads(facets)
        if all(values[place] == value for place, value in wanted):
            records += row_records
            size += int(row_bytes)
    return records, size


def facets_before(session: Session, kind: Kind[R], records: Iterable[R]) -> dict[tuple[str, ...], Facets]:
    """By key, what the rows of these records count as now; the size is last. Locks the rows."""
    columns = [*kind.key, *(kind.table.c[name] for name in kind.facets or ()), size_of(kind)]
    width = len(kind.record.KEY)
    first_parts = {record.key[0] for record in records}
    statement = select(*columns).where(kind.key[0].in_(first_parts)).order_by(*kind.key).with_for_update()
    return {tuple(row[:width]): tuple(row[width:]) for row in session.execute(statement)}


def note(session: Session, kind: Kind[R], joined: Iterable[R], left: Iterable[Facets] = ()) -> None:
    """Notes that these records have come, and that others, which counted as `left`, are no more what they were."""
    if kind.facets is None:
        return
    changes: dict[Facets, list[int]] = defaultdict(lambda: [0, 0])
    for record in joined:
        change = changes[tuple(getattr(record, name) for name in kind.facets)]
        change[0] += 1
        change[1] += getattr(record, "size", 0)
    for *facets, size in left:
        change = changes[tuple(facets)]
        change[0] -= 1
        change[1] -= size
    rows = [
        _row(kind.name, _text(facets), records, size)
        for facets, (records, size) in changes.items()
        if records or size
    ]
    if rows:
        ids = session.scalars(insert(TOTALS).returning(TOTALS.c.id), rows).all()
        if any(row_id % ADDED_UP_EVERY == 0 for row_id in ids):
            session.info.setdefault(CROWDED, set()).add(kind.name)


def add_up_crowded(session: Session) -> None:
    """Adds up the rows of the kinds that have many. Called at the end of a commit that holds these kinds' states,
    so that no two do it at once."""
    for name in sorted(session.info.pop(CROWDED, ())):
        some = select(TOTALS.c.id).where(TOTALS.c.kind == name).limit(MAX_ROWS + 1).subquery()
        if session.execute(select(func.count()).select_from(some)).scalar_one() <= MAX_ROWS:
            _put(session, name, _taken(session, name))


def size_sums(size: ColumnElement[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """What adds up sizes in the database: in two halves, for their sum may be more than its integers hold."""
    return func.sum(size // HALF), func.sum(size % HALF)


def whole_size(high: Any, low: Any) -> int:
    """The sum of sizes from its halves; these are None where there was nothing to add up."""
    return int(high or 0) * HALF + int(low or 0)


def recount(session: Session) -> dict[str, int]:
    """Counts all records anew and corrects what the totals say; returns how many totals of each kind were wrong.

    Nothing of ours makes them wrong; changes past it, in the database itself, do. Writers wait meanwhile.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE list_totals IN EXCLUSIVE MODE"))
    wrong = {}
    for kind in KINDS:
        if kind.facets is not None:
            known, counted = _taken(session, kind.name), _counted(session, kind)
            _put(session, kind.name, counted)
            wrong[kind.name] = sum(
                known.get(facets) != counted.get(facets) for facets in known.keys() | counted.keys()
            )
    return wrong


def _taken(session: Session, name: str) -> Totals:
    """What the rows of a kind come to; they are taken away."""
    totals: Totals = {}
    gone = delete(TOTALS).where(TOTALS.c.kind == name)
    for row in session.execute(gone.returning(TOTALS.c.facets, TOTALS.c.records, TOTALS.c.bytes)):
        records, size = totals.get(row.facets, (0, 0))
        totals[row.facets] = (records + row.records, size + int(row.bytes))
    return {facets: total for facets, total in totals.items() if total != (0, 0)}


def _counted(session: Session, kind: Kind[Any]) -> Totals:
    columns = [kind.table.c[name] for name in kind.facets or ()]
    statement = select(*columns, func.count(), *size_sums(size_of(kind))).group_by(*columns)
    return {
        _text(facets): (count, whole_size(high, low)) for *facets, count, high, low in session.execute(statement)
    }


def _put(session: Session, name: str, totals: Totals) -> None:
    if totals:
        session.execute(insert(TOTALS), [_row(name, facets, *total) for facets, total in totals.items()])


def _row(kind: str, facets: str, records: int, size: int) -> dict[str, Any]:
    return {"kind": kind, "facets": facets, "records": records, "bytes": str(size)}


def _text(facets: Sequence[Any]) -> str:
    return json.dumps(list(facets), separators=(",", ":"), ensure_ascii=False)


def size_of(kind: Kind[Any]) -> ColumnElement[int]:
    """The column of the kind that holds bytes; nought where records have no size."""
    return kind.table.c.size if "size" in kind.table.c else literal(0, BigInteger())
