"""Opens ended items again and ends open ones, as other nodes' registries say; never one that a worker holds."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType
from dpn.clock import Clock
from dpn.work.lifecycle import Change
from dpn.work.notes import printable
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.work import Status, WorkItem


def lock_free(session: Session, tokens: dict[int, int], now: datetime) -> dict[int, WorkItem]:
    """Those of these items (by id, with the token they were seen with) that are unchanged and held by nobody.

    Locked until the transaction ends: no worker claims one meanwhile.
    """
    statement = select(WorkItem).where(WorkItem.id.in_(tokens)).order_by(WorkItem.id).with_for_update()
    items = session.scalars(statement.execution_options(populate_existing=True)).all()
    return {item.id: item for item in items if item.lease_token == tokens[item.id] and not _is_held(item, now)}


def reopen(session: Session, item: WorkItem, stage: str, note: str, pipelines: Pipelines, clock: Clock) -> Event:
    """Makes an ended item due at `stage`, with fresh attempts; answers the event to record."""
    was = item.status
    item.stage, item.status, item.attempts = stage, Status.PENDING, 0
    item.run_after, item.updated_at = clock.in_database(), clock.in_database()
    item.completed_at = item.waiting_since = item.staging_volume = None
    item.needs_attention = False
    item.lease_token += 1
    item.note = printable(note)
    announce(session, item.id, pipelines.spec(item.task, stage).topic_on(None), clock.now())
    return Event(EventType.ITEM_REOPENED, item.identifier, "pending", {"was": was, "why": item.note}, item.id)


def close(item: WorkItem, change: Change, clock: Clock) -> Event:
    """Ends an open item as `change` says; answers the event to record. Housekeeping frees what it staged."""
    item.status, item.note = change.status, printable(change.note)
    item.needs_attention = change.needs_attention
    item.completed_at, item.updated_at = clock.in_database(), clock.in_database()
    item.lease_token += 1
    item.lease_owner = item.lease_expires_at = item.staging_volume = item.waiting_since = None
    detail = {"stage": item.stage, "why": item.note}
    return Event(EventType.ITEM_CLOSED, item.identifier, change.status.value, detail, item.id)


def _is_held(item: WorkItem, now: datetime) -> bool:
    return item.status == Status.RUNNING and item.lease_expires_at is not None and item.lease_expires_at >= now
