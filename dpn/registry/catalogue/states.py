"""Tells whether the records of a kind are still those that somebody read: a value that changes with each change.

It is written in the same transaction as the records, at its very end: writers of one kind take turns only for the
moment of the commit, and those of several kinds always in the same order.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from dpn.database import insert_into
from dpn.registry.catalogue.kinds import Kind
from dpn.registry.catalogue.totals import add_up_crowded
from models.registry import ListState

STATE_BYTES = 16
"""Random, not counted: after the database was restored from a backup, no earlier value comes again."""

UNTOUCHED = "none"
"""The state of a kind that nobody ever wrote records of."""

CHANGED = "dpn.changed_kinds"


def state_of(session: Session, *kinds: Kind[Any]) -> str:
    """The state of these kinds together. Read it before what it is to vouch for."""
    statement = select(ListState.kind, ListState.state).where(ListState.kind.in_([kind.name for kind in kinds]))
    states: dict[str, str] = {row.kind: row.state for row in session.execute(statement)}
    return "-".join(states.get(kind.name, UNTOUCHED) for kind in kinds)


def note_change(session: Session, kind: Kind[Any]) -> None:
    """Gives the kind a new state when the session's transaction is committed."""
    if CHANGED not in session.info:
        session.info[CHANGED] = set()
        event.listen(session, "before_commit", _write_states)
    session.info[CHANGED].add(kind.name)


def _write_states(session: Session) -> None:
    """Called before each commit of the session, savepoints included."""
    if session.in_nested_transaction() or not session.info[CHANGED]:
        return
    rows = [{"kind": kind, "state": secrets.token_hex(STATE_BYTES)} for kind in sorted(session.info[CHANGED])]
    session.info[CHANGED].clear()
    statement = insert_into(session, ListState)
    statement = statement.on_conflict_do_update(
        index_elements=["kind"], set_={"state": statement.excluded["state"]}
    )
    for row in rows:
        session.execute(statement, row)
    add_up_crowded(session)
