"""What an operator decides where a peer claims what is not its own: its word counts for nothing, what it had
entered goes, and who else claims the record is heard with the next sync. Nothing goes that ours rests on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, String, cast, delete, literal, select, update
from sqlalchemy.orm import Session

from dpn.database import insert_into
from dpn.errors import PermanentError
from dpn.registry.catalogue.kinds import (
    BAGS,
    DIGESTS,
    FIXITY_CHECKS,
    INGESTS,
    MEMBERS,
    RESTORES,
    TRANSFERS,
    Kind,
)
from dpn.registry.catalogue.members import forget_source
from dpn.registry.catalogue.rows import remove
from models.preservation import StoredCopy
from models.registry import DisownedRecord, SyncMark
from models.work import Status, Task, WorkItem

DISOWNABLE: dict[str, Kind[Any]] = {
    kind.name: kind for kind in (BAGS, MEMBERS, TRANSFERS, RESTORES, FIXITY_CHECKS)
}
"""By name. Digests and Ingest records stand and fall with their bag."""

OF_A_BAG: tuple[Kind[Any], ...] = (DIGESTS, INGESTS, FIXITY_CHECKS, TRANSFERS, RESTORES)


class RecordInUse(PermanentError):
    """Something of ours rests on the record: it stays."""


def disown(
    session: Session, us: str, peer: str, kind: Kind[Any], key: str, *, reason: str, now: datetime
) -> dict[str, int]:
    """Takes this record from `peer`, for good; returns how many records left the registry, by kind.

    What is another node's stays as it is. What left with a bag and was others' is read anew. Raises RecordInUse.
    """
    row = {"peer": peer, "kind": kind.name, "record_key": key, "reason": reason, "disowned_at": now}
    statement = insert_into(session, DisownedRecord)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["peer", "kind", "record_key"], set_={"reason": statement.excluded.reason}
        ),
        row,
    )
    if kind is MEMBERS:
        forget_source(session, peer, key)
        _read_anew(session, [MEMBERS.name])
        return {}
    its = kind.key[0] == key
    if session.scalar(select(kind.owners).where(its).with_for_update()) != peer:
        return {}
    about = {one.name: (one, one.table.c.bag == key) for one in OF_A_BAG} if kind is BAGS else {}
    about[kind.name] = (kind, its)
    _refuse_in_use(session, us, key, about.values(), is_bag=kind is BAGS)
    gone = {name: remove(session, one, which) for name, (one, which) in about.items()}
    _read_anew(session, [name for name, number in gone.items() if number and name != kind.name])
    return {name: number for name, number in gone.items() if number}


def take_back(session: Session, peer: str, kind: Kind[Any], key: str) -> bool:
    """Lets the peer's word on this record count again, from the next sync on; false if it was not disowned."""
    row = (DisownedRecord.peer == peer) & (DisownedRecord.kind == kind.name) & (DisownedRecord.record_key == key)
    return session.scalar(delete(DisownedRecord).where(row).returning(DisownedRecord.peer)) is not None


def disowned(session: Session, peer: str, kind: Kind[Any], keys: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Those of these records, by key, that are not `peer`'s by an operator's decision, and why."""
    table = DisownedRecord
    decided = select(table.record_key, table.reason).where(table.peer == peer, table.kind == kind.name)
    rows = session.execute(decided.where(table.record_key.in_({"/".join(key) for key in keys})))
    return {row.record_key: row.reason for row in rows}


def _refuse_in_use(
    session: Session, us: str, key: str, about: Iterable[tuple[Kind[Any], ColumnElement[bool]]], *, is_bag: bool
) -> None:
    if is_bag and session.get(StoredCopy, key) is not None:
        raise RecordInUse(f"we keep a copy of bag {key}: what is kept must be known")
    ids = [key]
    for kind, which in about:
        if kind.owner is None:
            continue
        for record_id, owner in session.execute(select(kind.key[0], kind.owners).where(which)):
            ids.append(record_id)
            if owner == us:
                raise RecordInUse(f"{kind.name} {record_id} is ours and rests on it: end that first")
    its_items = WorkItem.identifier.in_(ids)
    at_work = (Status.SUCCESS, Status.FAILED, Status.CANCELLED)
    open_items = session.scalars(select(WorkItem.id).where(its_items, WorkItem.status.not_in(at_work))).all()
    if open_items:
        raise RecordInUse(f"work is under way on it: `dpn item cancel {open_items[0]} --reason …` first")
    # Whose transfer it is instead gets an item of its own.
    came_to_nothing = its_items & (WorkItem.task == Task.REPLICATION) & (WorkItem.status != Status.SUCCESS)
    name = WorkItem.identifier + literal(" disowned ") + cast(WorkItem.id, String)
    session.execute(update(WorkItem).where(came_to_nothing).values(identifier=name))


def _read_anew(session: Session, kinds: Iterable[str]) -> None:
    """The next sync reads these lists of all peers from their beginning: what was let go shows only there."""
    session.execute(delete(SyncMark).where(SyncMark.record_type.in_(list(kinds))))
