"""Writes what is said once: fixity checks, and the Ingest records that tell when a bag has all its copies."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import BAGS, FIXITY_CHECKS, INGESTS
from dpn.registry.catalogue.known import ALREADY_THERE, NewId, known_bags, known_nodes
from dpn.registry.catalogue.query import find
from dpn.registry.catalogue.rows import insert_new
from dpn.registry.records import BagRecord, FixityCheckRecord, IngestRecord
from dpn.registry.rules import Accepted, Caller, Decision, statements


def add_fixity_check(
    session: Session, proposed: FixityCheckRecord, *, caller: Caller
) -> Decision[FixityCheckRecord]:
    """Records a fixity check; 409 if its id is taken."""
    if caller.is_local and find(session, FIXITY_CHECKS, *proposed.key) is not None:
        return ALREADY_THERE
    decision = statements.create_fixity_check(
        proposed,
        caller=caller,
        bag_known=bool(known_bags(session, [proposed.bag])),
        known_nodes=known_nodes(session),
    )
    if isinstance(decision, Accepted) and not insert_new(session, FIXITY_CHECKS, decision.record):
        return ALREADY_THERE
    return decision


def add_ingest(session: Session, proposed: IngestRecord, *, caller: Caller) -> Decision[IngestRecord]:
    """Records an Ingest record as somebody wrote it; 409 if its id is taken. Ours are written by `note_copies`."""
    if caller.is_local and find(session, INGESTS, *proposed.key) is not None:
        return ALREADY_THERE
    bag = find(session, BAGS, proposed.bag, lock=True)  # in turn with those that count its copies
    decision = statements.create_ingest(
        proposed, caller=caller, bag_known=bag is not None, known_nodes=known_nodes(session)
    )
    if isinstance(decision, Accepted) and not insert_new(session, INGESTS, decision.record):
        return ALREADY_THERE
    return decision


def note_copies(
    session: Session, bag: BagRecord, *, us: str, copies: int, now: datetime, new_id: NewId
) -> IngestRecord | None:
    """Writes the Ingest record that is due for the bag, if it is ours and it reached `copies` or lost them.

    The bag's row is locked, or new, in this transaction: of several that change its nodes at once, each sees the
    Ingest records of those before it.
    """
    if bag.admin_node != us:
        return None
    due = statements.ingest_due(bag, _latest(session, bag.uuid), copies=copies, ingest_id=new_id(), now=now)
    if due is not None:
        insert_new(session, INGESTS, due)
    return due


def _latest(session: Session, bag: str) -> IngestRecord | None:
    columns = INGESTS.table.c
    newest = columns.created_at.desc(), columns.ingest_id.desc()
    row = session.execute(select(INGESTS.table).where(columns.bag == bag).order_by(*newest).limit(1)).mappings()
    found = row.one_or_none()
    return None if found is None else INGESTS.read(found)
