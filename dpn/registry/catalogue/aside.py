"""Keeps what peers told us and we could not take over, with the reason, so that it is tried again and can be seen.

Bounded: of one peer at most MAX_ROWS, of which those not seen for longest go first, and none for longer than
KEEP_FOR after the peer showed it last. What goes is read again with the peer's next full walk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dpn.database import insert_into
from dpn.registry.catalogue.applied import RefusedRecord
from dpn.registry.catalogue.kinds import BAGS, Kind
from dpn.registry.records import InvalidRecord, Record
from dpn.registry.wire import UNSTORABLE
from models.registry import SetAsideRecord

R = TypeVar("R", bound=Record)

MAX_ROWS = 10_000
KEEP_FOR = timedelta(days=30)

MAX_REASON_LENGTH = 2_000
MAX_EXCERPT_LENGTH = 500

NO_RECORD = 422
"""The status of a row that is no record."""


@dataclass(frozen=True)
class UnreadableRow:
    """A row of a peer's list that is no usable record; `excerpt` is how it began."""

    kind: str
    reason: str
    excerpt: str


@dataclass(frozen=True)
class SetAside:
    """A record, or a row that is none, as it was set aside. `key` has its parts joined by `/`."""

    peer: str
    kind: str
    key: str
    status: int
    reason: str
    record: dict[str, Any] | None
    excerpt: str | None
    first_seen_at: datetime
    last_seen_at: datetime


def set_aside(
    session: Session,
    peer: str,
    refused: Sequence[RefusedRecord | UnreadableRow],
    now: datetime,
    *,
    seen: bool = True,
) -> int:
    """Keeps these, in place of what was kept under the same keys; returns how many others had to go for them.

    `seen` is false for what was taken up again and refused once more: the peer need not show it any longer.
    """
    rows = {(row["kind"], row["record_key"]): row for row in (_row(peer, one, now) for one in refused)}
    if not rows:
        return 0
    statement = insert_into(session, SetAsideRecord)
    names = ["status", "reason", "record", "excerpt", *(["last_seen_at"] if seen else [])]
    statement = statement.on_conflict_do_update(
        index_elements=["peer", "kind", "record_key"], set_={name: statement.excluded[name] for name in names}
    )
    session.connection().execute(statement, [rows[key] for key in sorted(rows)])
    return _drop_beyond(session, peer)


def take_up(session: Session, peer: str, kind: Kind[R], *, size: int = 500) -> Iterator[list[R]]:
    """The records of this kind that are set aside, to be tried again, `size` at a time in the order of their keys.

    The caller may commit between two batches, and settle what it has adopted.
    """
    table = SetAsideRecord
    last = ""
    while True:
        statement = select(table.record_key, table.record).where(
            table.peer == peer, table.kind == kind.name, table.record_key > last, table.record.is_not(None)
        )
        rows = session.execute(statement.order_by(table.record_key).limit(size)).all()
        if records := [record for row in rows if (record := _read(kind, row.record)) is not None]:
            yield records
        if len(rows) < size:
            return
        last = rows[-1].record_key


def settle(session: Session, peer: str, kind: Kind[R], keys: Iterable[tuple[str, ...]]) -> int:
    """Forgets what was set aside under these keys: it has been adopted, or is nobody's loss. Answers how many."""
    table = SetAsideRecord
    if session.scalar(select(table.kind).where(table.peer == peer, table.kind == kind.name).limit(1)) is None:
        return 0
    wanted = {_joined(key) for key in keys}
    statement = delete(table).where(table.peer == peer, table.kind == kind.name, table.record_key.in_(wanted))
    return _count(session, statement)


def expire(session: Session, peer: str, now: datetime) -> int:
    """Forgets what the peer has not shown for KEEP_FOR; returns how many."""
    table = SetAsideRecord
    return _count(session, delete(table).where(table.peer == peer, table.last_seen_at < now - KEEP_FOR))


def set_aside_of(session: Session, peer: str | None = None, *, limit: int = 1_000) -> list[SetAside]:
    """What is set aside, of one peer or of all: those shown last first, at most `limit`."""
    table = SetAsideRecord
    statement = select(table).order_by(table.last_seen_at.desc(), table.peer, table.kind, table.record_key)
    if peer is not None:
        statement = statement.where(table.peer == peer)
    return [_shown(row) for row in session.scalars(statement.limit(limit))]


def count_set_aside(session: Session) -> dict[str, int]:
    """How much is set aside of each peer that anything is."""
    table = SetAsideRecord
    statement = select(table.peer, func.count().label("rows")).group_by(table.peer).order_by(table.peer)
    return {row.peer: row.rows for row in session.execute(statement)}


def admins_told(session: Session, bags: Iterable[str], peer: str | None = None) -> dict[tuple[str, str], str]:
    """Whom a peer calls the admin node of a bag, where we have set its word aside: by peer and bag."""
    table = SetAsideRecord
    peers = [peer] if peer is not None else session.scalars(select(table.peer).distinct()).all()
    if not peers:
        return {}
    told = select(table.peer, table.record_key, table.record).where(
        table.peer.in_(peers), table.kind == BAGS.name, table.record_key.in_(set(bags)), table.record.is_not(None)
    )
    rows = session.execute(told).all()
    return {
        (row.peer, row.record_key): str(row.record.get("admin_node"))
        for row in rows
        if isinstance(row.record, dict)
    }


def _row(peer: str, one: RefusedRecord | UnreadableRow, now: datetime) -> dict[str, Any]:
    times = {"first_seen_at": now, "last_seen_at": now}
    if isinstance(one, UnreadableRow):
        excerpt = _storable(one.excerpt, MAX_EXCERPT_LENGTH)
        key = "sha256:" + hashlib.sha256(excerpt.encode()).hexdigest()
        what = {"record_key": key, "status": NO_RECORD, "reason": one.reason, "record": None, "excerpt": excerpt}
    else:
        what = {
            "record_key": _joined(one.key),
            "status": int(one.status),
            "reason": "; ".join(one.messages),
            "record": one.record.to_wire(),
            "excerpt": None,
        }
    what["reason"] = _storable(str(what["reason"]), MAX_REASON_LENGTH)
    return {"peer": peer, "kind": one.kind, **what, **times}


def _storable(text: str, length: int) -> str:
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text[:length])


def _joined(key: tuple[str, ...]) -> str:
    return "/".join(key)


def _read(kind: Kind[R], wire: dict[str, object] | None) -> R | None:
    """The record; None if it is no record any more, damaged or of a form that was given up."""
    try:
        return kind.record.from_wire(wire)
    except InvalidRecord:
        return None


def _drop_beyond(session: Session, peer: str) -> int:
    table = SetAsideRecord
    count = session.scalar(select(func.count()).select_from(table).where(table.peer == peer)) or 0
    if count <= MAX_ROWS:
        return 0
    oldest = select(table.kind, table.record_key).where(table.peer == peer)
    oldest = oldest.order_by(table.last_seen_at, table.kind, table.record_key).limit(count - MAX_ROWS)
    gone = session.execute(oldest).all()
    for kind in sorted({row.kind for row in gone}):
        keys = [row.record_key for row in gone if row.kind == kind]
        session.execute(delete(table).where(table.peer == peer, table.kind == kind, table.record_key.in_(keys)))
    return len(gone)


def _count(session: Session, statement: Any) -> int:
    return int(session.connection().execute(statement.execution_options(preserve_rowcount=True)).rowcount)


def _shown(row: SetAsideRecord) -> SetAside:
    return SetAside(
        peer=row.peer,
        kind=row.kind,
        key=row.record_key,
        status=row.status,
        reason=row.reason,
        record=row.record,
        excerpt=row.excerpt,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
    )
