"""Opens ended items again and ends open ones, as other nodes' registries say; never one that a worker holds."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType
from dpn.clock import Clock
from dpn.work.endings import EndedBy, Ending, end_item
from dpn.work.lifecycle import Policy, Position, decide
from dpn.work.notes import printable
from dpn.work.outcomes import Outcome
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.work import Status, WorkItem

NO_POLICY = Policy(attempts=1, backoff_first_seconds=0, backoff_max_seconds=0, attention_after_seconds=0)
"""For outcomes that end an item: none of it matters there."""


def lock_free(session: Session, tokens: dict[int, int], now: datetime) -> dict[int, WorkItem]:
    """Those of these items (by id, with the token they were seen with) that are unchanged and held by nobody.

    Locked until the transaction ends: no worker claims one meanwhile.
    """
    statement = select(WorkItem).where(WorkItem.id.in_(tokens)).order_by(WorkItem.id).with_for_update()
    items = session.scalars(statement.execution_options(populate_existing=True)).all()
    return {item.id: item for item in items if item.lease_token == tokens[item.id] and not _is_held(item, now)}


def reopen(session: Session, item: WorkItem, stage: str, note: str, pipelines: Pipelines, clock: Clock) -> Event:
    """Makes an ended item due at `stage`, with fresh attempts; returns the event to record."""
    was = item.status
    item.stage, item.status, item.attempts = stage, Status.PENDING, 0
    item.run_after, item.updated_at = clock.in_database(), clock.in_database()
    item.completed_at = item.waiting_since = item.staging_volume = None
    item.needs_attention = False
    item.lease_token += 1
    item.note = printable(note)
    announce(session, item.id, pipelines.spec(item.task, stage).queue_on(None), clock.now())
    return Event(EventType.ITEM_REOPENED, item.identifier, "pending", {"was": was, "why": item.note}, item.id)


def close(session: Session, item: WorkItem, outcome: Outcome, pipelines: Pipelines, clock: Clock) -> Event:
    """Ends an open item because what it is for has ended at another node, with `outcome`, one that ends items.

    Returns the event to record. Housekeeping frees what it staged.
    """
    position = Position(item.task, item.stage, item.attempts, item.waiting_since)
    change = decide(position, outcome, pipelines=pipelines, policy=NO_POLICY, now=clock.now(), jitter=0.0)
    ending = Ending(
        item_id=item.id,
        task=item.task,
        identifier=item.identifier,
        remote_node=item.remote_node,
        status=change.status,
        by=EndedBy.ELSEWHERE,
        reason=change.note,
        follow_up=change.follow_up,
    )
    end_item(
        session,
        ending,
        token=None,
        note=change.note,
        needs_attention=change.needs_attention,
        pipelines=pipelines,
        clock=clock,
        values={"staging_volume": None},
    )
    detail = {"stage": item.stage, "why": printable(change.note)}
    return Event(EventType.ITEM_CLOSED, item.identifier, change.status.value, detail, item.id)


def _is_held(item: WorkItem, now: datetime) -> bool:
    return item.status == Status.RUNNING and item.lease_expires_at is not None and item.lease_expires_at >= now
