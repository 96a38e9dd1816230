"""Writes records that the rules have accepted: inserts what is new, overwrites what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Table, bindparam, delete, func, select
from sqlalchemy.orm import Session

from dpn.database import insert_into
from dpn.registry.catalogue import totals
from dpn.registry.catalogue.kinds import BAGS, REPLICAS, Kind
from dpn.registry.catalogue.query import replicas_of
from dpn.registry.catalogue.states import note_change
from dpn.registry.records import BagRecord, Record

R = TypeVar("R", bound=Record)


def insert_new(session: Session, kind: Kind[R], record: R) -> bool:
    """Adds the record; false, and nothing done, if one like it is there, however lately it came."""
    statement = insert_into(session, kind.table).on_conflict_do_nothing().returning(*kind.key)
    if session.execute(statement, kind.columns(record)).one_or_none() is None:
        return False
    note_change(session, kind)
    totals.note(session, kind, [record])
    _save_replicas(session, [record])
    return True


def save_new(session: Session, kind: Kind[R], records: Sequence[R]) -> set[tuple[str, ...]]:
    """Inserts those of `records` whose key is not there, however lately it came; returns the keys of these.

    No key may stand twice. Raises SQLAlchemy's IntegrityError.
    """
    if not records:
        return set()
    statement = insert_into(session, kind.table).on_conflict_do_nothing(index_elements=list(kind.record.KEY))
    rows = [kind.columns(record) for record in records]
    added = {tuple(row) for row in _execute(session, kind.table, statement.returning(*kind.key), rows)}
    if added:
        note_change(session, kind)
        joined = [record for record in records if record.key in added]
        totals.note(session, kind, joined)
        _save_replicas(session, joined)
    return added


def save(session: Session, kind: Kind[R], records: Sequence[R]) -> None:
    """Inserts or overwrites all of `records`; no key may stand twice. Raises SQLAlchemy's IntegrityError."""
    if not records:
        return
    before = totals.facets_before(session, kind, records)
    new = [record for record in records if record.key not in before]
    added = save_new(session, kind, new)
    _overwrite(session, kind, [record for record in records if record.key in before], before)
    # What somebody else has added meanwhile is there now, to be overwritten.
    save(session, kind, [record for record in new if record.key not in added])


def remove(session: Session, kind: Kind[R], which: ColumnElement[bool]) -> int:
    """Takes the records out of the registry for which this holds; returns how many. Only for an operator: nothing
    that another node does, or ceases to do, removes one. Raises SQLAlchemy's IntegrityError."""
    rows = session.execute(select(kind.table).where(which).order_by(*kind.key)).mappings().all()
    records = [kind.read(row, **({"replicating_nodes": ()} if kind.table is BAGS.table else {})) for row in rows]
    if not records:
        return 0
    before = totals.facets_before(session, kind, records)
    session.execute(delete(kind.table).where(which))
    note_change(session, kind)
    totals.note(session, kind, (), [before[record.key] for record in records])
    return len(records)


def _overwrite(
    session: Session, kind: Kind[R], records: Sequence[R], before: Mapping[tuple[str, ...], totals.Facets]
) -> None:
    """Gives rows that are there, and ours until the transaction ends, the values of `records`."""
    if not records:
        return
    statement = insert_into(session, kind.table)
    names = [column.name for column in kind.table.columns if column.name not in kind.record.KEY]
    statement = statement.on_conflict_do_update(
        index_elements=list(kind.record.KEY), set_={name: statement.excluded[name] for name in names}
    )
    _execute(session, kind.table, statement, [kind.columns(record) for record in records])
    note_change(session, kind)
    totals.note(session, kind, records, [before[record.key] for record in records])
    if kind.table is BAGS.table:
        _save_replicas(session, records)


def _save_replicas(session: Session, records: Sequence[Record]) -> None:
    """Makes the rows of the bags' `replicating_nodes` those of `records`."""
    wanted = {(bag.uuid, node) for bag in records if isinstance(bag, BagRecord) for node in bag.replicating_nodes}
    bags = [bag.uuid for bag in records if isinstance(bag, BagRecord)]
    present = {(bag, node) for bag, nodes in replicas_of(session, bags).items() for node in nodes}
    if gone := present - wanted:
        row = (REPLICAS.c.bag == bindparam("gone_bag")) & (REPLICAS.c.node == bindparam("gone_node"))
        session.execute(delete(REPLICAS).where(row), [{"gone_bag": bag, "gone_node": node} for bag, node in gone])
    if missing := wanted - present:
        insert = insert_into(session, REPLICAS).on_conflict_do_nothing()
        _execute(session, REPLICAS, insert, [{"bag": bag, "node": node} for bag, node in sorted(missing)])


def _execute(session: Session, table: Table, insert: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """Inserts all rows in one go. PostgreSQL gets them as one array a column: reading a statement of thousands of
    values takes longer than what it does."""
    connection = session.connection()
    if connection.dialect.name != "postgresql":
        return connection.execute(insert, list(rows))
    names = list(rows[0])
    arrays = [
        func.unnest(bindparam(f"all_{name}", type_=ARRAY(table.c[name].type, dimensions=1))) for name in names
    ]
    values = {f"all_{name}": [row[name] for row in rows] for name in names}
    return connection.execute(insert.from_select(names, select(*arrays)), values)
