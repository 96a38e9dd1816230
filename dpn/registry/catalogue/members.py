"""Writes members, and remembers which peer told us of one: it alone may change it. Those of no peer are ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from dpn.database import insert_missing
from dpn.registry.catalogue.kinds import MEMBERS, NODES
from dpn.registry.catalogue.known import ALREADY_THERE, NOT_FOUND
from dpn.registry.catalogue.query import find
from dpn.registry.catalogue.rows import insert_new, save
from dpn.registry.records import MemberRecord
from dpn.registry.rules import Accepted, Caller, Decision
from dpn.registry.rules import members as rules
from dpn.registry.wire import utc_second
from models.registry import MemberSource

NOBODY = ""
"""In place of the peer that told us of a member, where it was taken from that."""


def add_member(session: Session, proposed: MemberRecord, *, caller: Caller) -> Decision[MemberRecord]:
    """Records a new member; 409 if its id is taken."""
    if caller.is_local and find(session, MEMBERS, *proposed.key) is not None:
        return ALREADY_THERE
    same_name = _same_name(session, proposed, caller)
    decision = rules.create(proposed, caller=caller, same_name=same_name)
    if isinstance(decision, Accepted) and not insert_new(session, MEMBERS, decision.record):
        return ALREADY_THERE
    return decision


def put_member(
    session: Session, member_id: str, proposed: MemberRecord, *, caller: Caller, now: datetime
) -> Decision[MemberRecord]:
    """Changes what may change of a member, which is ours from then on, whoever told us of it."""
    current = find(session, MEMBERS, member_id, lock=True)
    if current is None:
        return NOT_FOUND
    same_name = _same_name(session, proposed, caller)
    decision = rules.update(current, proposed, caller=caller, same_name=same_name, now=utc_second(now))
    if isinstance(decision, Accepted):
        session.execute(delete(MemberSource).where(MemberSource.member_id == member_id))
        if decision.changed:
            save(session, MEMBERS, [decision.record])
    return decision


def sources_of(session: Session, member_ids: Iterable[str]) -> dict[str, str]:
    """The peer that told us of each of these members; those of our own are left out."""
    wanted = MemberSource.member_id.in_(set(member_ids))
    statement = select(MemberSource.member_id, MemberSource.peer).where(wanted)
    return {row.member_id: row.peer for row in session.execute(statement)}


def remember_source(session: Session, peer: str, member_ids: Sequence[str]) -> None:
    """Notes that `peer` told us of these members, which are new or were nobody's."""
    insert_missing(session, MemberSource, [{"member_id": one, "peer": peer} for one in member_ids])
    nobodys = MemberSource.member_id.in_(member_ids) & (MemberSource.peer == NOBODY)
    session.execute(update(MemberSource).where(nobodys).values(peer=peer))


def forget_source(session: Session, peer: str, member_id: str) -> None:
    """Takes the member from the peer that told us of it, if it is this one: it is that of the next to show it."""
    its = (MemberSource.member_id == member_id) & (MemberSource.peer == peer)
    session.execute(update(MemberSource).where(its).values(peer=NOBODY))


def _same_name(session: Session, proposed: MemberRecord, caller: Caller) -> str | None:
    """Another member of ours of this name. They are written one after the other, by a lock on the node's entry: no
    constraint forbids two of one name, since peers may tell of such."""
    if caller.is_local:
        find(session, NODES, caller.us, lock=True)
    columns = MEMBERS.table.c
    known = select(columns.member_id).outerjoin(MemberSource, MemberSource.member_id == columns.member_id)
    others = (columns.name == proposed.name) & (columns.member_id != proposed.member_id)
    return session.scalar(
        known.where(others, MemberSource.member_id.is_(None)).order_by(columns.member_id).limit(1)
    )
