"""Writes restore transfers: a node that wants a bag back, and the one that holds a copy of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import RESTORES
from dpn.registry.catalogue.known import ALREADY_THERE, NOT_FOUND, known_bags, known_nodes
from dpn.registry.catalogue.query import find
from dpn.registry.catalogue.rows import insert_new, save
from dpn.registry.records import RestoreRecord
from dpn.registry.rules import Accepted, Caller, Decision, restores
from dpn.registry.wire import utc_second


def add_restore(session: Session, proposed: RestoreRecord, *, caller: Caller) -> Decision[RestoreRecord]:
    """Records a new restore transfer; 409 if its id is taken."""
    if caller.is_local and find(session, RESTORES, *proposed.key) is not None:
        return ALREADY_THERE
    decision = restores.create(
        proposed,
        caller=caller,
        bag_known=bool(known_bags(session, [proposed.bag])),
        known_nodes=known_nodes(session),
    )
    if isinstance(decision, Accepted) and not insert_new(session, RESTORES, decision.record):
        return ALREADY_THERE
    return decision


def put_restore(
    session: Session, restore_id: str, proposed: RestoreRecord, *, caller: Caller, now: datetime
) -> Decision[RestoreRecord]:
    """Moves a restore transfer on."""
    current = find(session, RESTORES, restore_id, lock=True)
    if current is None:
        return NOT_FOUND
    decision = restores.update(current, proposed, caller=caller, now=utc_second(now))
    if isinstance(decision, Accepted) and decision.changed:
        save(session, RESTORES, [decision.record])
    return decision
