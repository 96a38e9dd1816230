"""Applies changes to held items: manifest, stage, status, events and dispatch intent commit together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, record
from dpn.clock import Clock
from dpn.work.endings import EndedBy, Ending, end_item
from dpn.work.leases import Claim, write_fenced
from dpn.work.lifecycle import Change
from dpn.work.notes import printable
from dpn.work.pipeline import Pipelines
from models.work import DiskReservation, DispatchIntent

Write = Callable[[Session], object]
"""What else is committed with a change of an item, once it is known that we hold the item. It may be done again if
nothing was heard of a commit."""


def save_progress(
    session: Session,
    claim: Claim,
    *,
    manifest: dict[str, Any],
    staging_volume: str | None,
    note: str,
    events: Sequence[Event],
    worker: str,
    clock: Clock,
    at: datetime,
    again: bool,
    writes: Sequence[Write] = (),
) -> None:
    """Persists what a running stage has reached at `at`, and `writes`; `again` after a try of which nothing was
    heard.

    Raises LeaseLost.
    """
    values = {
        "manifest": manifest,
        "staging_volume": staging_volume,
        "note": printable(note),
        "updated_at": clock.in_database(),
    }
    write_fenced(session, claim.item_id, claim.token, values)
    record(session, events, agent=worker, at=at, again=again)
    for write in writes:
        write(session)


def finish(
    session: Session,
    claim: Claim,
    change: Change,
    *,
    manifest: dict[str, Any] | None,
    staging_volume: str | None,
    events: Sequence[Event],
    pipelines: Pipelines,
    worker: str,
    clock: Clock,
    writes: Sequence[Write] = (),
) -> None:
    """Ends a run of a stage with `change`, and the lease with it. Raises LeaseLost; then nothing is changed.

    Without a manifest, what was last saved stays: the manifest and the volume that it speaks of.
    """
    volume = None if change.leaves_volume else staging_volume
    values: dict[str, Any] = {
        "stage": change.stage,
        "attempts": change.attempts,
        "run_after": clock.in_database(change.delay_seconds),
    }
    if manifest is not None:
        values["manifest"] = manifest
    if manifest is not None or change.leaves_volume:
        values["staging_volume"] = volume
    record(session, events, agent=worker, at=clock.now())
    if change.status.is_final:
        end_item(
            session,
            _ending(claim, change),
            token=claim.token,
            note=change.note,
            needs_attention=change.needs_attention,
            pipelines=pipelines,
            clock=clock,
            values=values,
        )
    else:
        _go_on(session, claim, change, values, clock)
    for write in writes:
        write(session)
    if change.dispatch:
        announce(session, claim.item_id, pipelines.spec(claim.task, change.stage).queue_on(volume), clock.now())


def _ending(claim: Claim, change: Change) -> Ending:
    return Ending(
        item_id=claim.item_id,
        task=claim.task,
        identifier=claim.identifier,
        remote_node=claim.remote_node,
        status=change.status,
        by=EndedBy.NOBODY if change.given_up else EndedBy.STAGE,
        reason=change.note,
        follow_up=change.follow_up,
    )


def _go_on(session: Session, claim: Claim, change: Change, values: dict[str, Any], clock: Clock) -> None:
    """The item is to run again, at this stage or another."""
    further = {
        "status": change.status,
        "waiting_since": change.waiting_since,
        "note": printable(change.note),
        "needs_attention": change.needs_attention,
        "lease_owner": None,
        "lease_expires_at": None,
        "updated_at": clock.in_database(),
        "completed_at": None,
    }
    write_fenced(session, claim.item_id, claim.token, {**values, **further})
    if change.leaves_volume:
        session.execute(delete(DiskReservation).where(DiskReservation.item_id == claim.item_id))


def announce(session: Session, item_id: int, queue: str, now: datetime) -> None:
    """Intends a message on `queue`, to be published once the transaction has committed."""
    announce_all(session, [(item_id, queue)], now)


def announce_all(session: Session, messages: Sequence[tuple[int, str]], now: datetime) -> None:
    """Intends a message for each (item, queue), all in one statement."""
    if messages:
        rows = [{"item_id": item_id, "topic": queue, "created_at": now} for item_id, queue in messages]
        session.execute(insert(DispatchIntent), rows)
