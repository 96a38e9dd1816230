"""Making work items, finding them, and what an operator may do to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.errors import PermanentError
from dpn.work.deposits import lock_deposits_beside, replaced_by
from dpn.work.notes import printable
from dpn.work.outcomes import CancelReason, TransferCancellation
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import TRANSFER_TASKS, announce, owe_notice, withdraw_notice
from models.work import Status, Task, WorkItem

PAGE = 500
MAX_AGENT_CHARACTERS = 255
BUDGETS = ("restarts", "not_as_recorded")
"""What a manifest counts on the way to giving up."""


class NoSuchItem(PermanentError):
    """There is no work item with that id: `dpn items` lists what there is."""


class NotAllowed(PermanentError):
    """The item is in a state in which this may not be done; the text says which and what can be done."""


@dataclass(frozen=True)
class ItemFilter:
    """Which items to list; what is None does not matter."""

    task: str | None = None
    stage: str | None = None
    status: str | None = None
    needs_attention: bool | None = None


def find_item(session: Session, item_id: int) -> WorkItem:
    """Raises NoSuchItem."""
    item = session.get(WorkItem, item_id)
    if item is None:
        raise NoSuchItem(f"no work item {item_id}: `dpn items` lists what there is")
    return item


def list_items(session: Session, wanted: ItemFilter) -> Iterator[WorkItem]:
    """All matching items by id, read a page at a time."""
    after = 0
    while True:
        statement = select(WorkItem).where(WorkItem.id > after).order_by(WorkItem.id).limit(PAGE)
        for column in ("task", "stage", "status", "needs_attention"):
            value = getattr(wanted, column)
            if value is not None:
                statement = statement.where(getattr(WorkItem, column) == value)
        page = session.scalars(statement).all()
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id
        session.expunge_all()


def count_by_status(session: Session) -> Sequence[tuple[str, str, str, int]]:
    """How many items there are of each task, stage and status."""
    columns = (WorkItem.task, WorkItem.stage, WorkItem.status)
    rows = session.execute(select(*columns, func.count()).group_by(*columns).order_by(*columns))
    return [(task, stage, status, count) for task, stage, status, count in rows]


def new_item(
    *,
    task: Task,
    identifier: str,
    remote_node: str | None,
    note: str,
    manifest: dict[str, Any],
    pipelines: Pipelines,
    clock: Clock,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The row of an item at the start of its pipeline, due at once; inserted by `insert_missing`.

    `now`: the database's time, where the caller has asked for it already.
    """
    at = clock.in_database() if now is None else now
    return {
        "task": task,
        "identifier": identifier,
        "remote_node": remote_node,
        "stage": pipelines.first(task).name,
        "status": Status.PENDING,
        "attempts": 0,
        "run_after": at,
        "lease_token": 0,
        "note": note,
        "needs_attention": False,
        "manifest": manifest,
        "created_at": at,
        "updated_at": at,
    }


def retry_item(session: Session, item_id: int, *, operator: str, pipelines: Pipelines, clock: Clock) -> WorkItem:
    """Makes the item due now, with fresh budgets of attempts and restarts; that it was given up is not told any
    more, if its owner has not heard it yet; nodes that declined a copy may be asked again. A deposit whose local
    id another one has taken meanwhile stays ended.

    Raises NoSuchItem, NotAllowed.
    """
    lock_deposits_beside(session, item_id)
    item, operator = _locked(session, item_id), printable(operator, MAX_AGENT_CHARACTERS)
    if item.status == Status.SUCCESS:
        raise NotAllowed(f"item {item_id} has succeeded: there is nothing to retry")
    if item.status == Status.RUNNING:
        raise NotAllowed(f"item {item_id} is running at {item.lease_owner}: wait for it, or cancel it")
    if (why := replaced_by(session, item)) is not None:
        raise NotAllowed(f"item {item_id} stays as it is: {why}")
    item.status = Status.PENDING
    item.attempts = 0
    item.run_after, item.updated_at = clock.in_database(), clock.in_database()
    if isinstance(item.manifest, dict):
        fresh: dict[str, int | None] = {name: 0 for name in BUDGETS if name in item.manifest}
        if item.task == Task.RESTORE:
            fresh["delivered_at"] = None  # the node has all the time again to fetch it
        if item.task in (Task.INGEST, Task.RECOVERY):
            fresh["retries"] = item.manifest.get("retries", 0) + 1
        item.manifest = {**item.manifest, **fresh}
    item.waiting_since = item.completed_at = None
    item.needs_attention = False
    item.lease_token += 1
    item.note = printable(f"retried by {operator}")
    withdraw_notice(session, item, clock=clock)
    announce(session, item.id, pipelines.spec(item.task, item.stage).topic_on(item.staging_volume), clock.now())
    event = Event(EventType.OPERATOR_RETRY, item.identifier, "pending", {}, item.id)
    record(session, [event], agent=operator, at=clock.now())
    session.flush()
    session.refresh(item)  # the database has set its times
    return item


def cancel_item(
    session: Session, item_id: int, *, reason: str, operator: str, pipelines: Pipelines, clock: Clock
) -> WorkItem:
    """Ends the item as cancelled; a worker that runs it loses its lease; the transfer's owner will be told.

    Raises NoSuchItem, NotAllowed (it has ended already).
    """
    item, operator = _locked(session, item_id), printable(operator, MAX_AGENT_CHARACTERS)
    if Status(item.status).is_final:
        raise NotAllowed(f"item {item_id} has already ended ({item.status}): nothing to cancel")
    if item.task == Task.NOTICE:
        raise NotAllowed(
            f"item {item_id} is what we owe {item.remote_node}: it ends when {item.remote_node} knows"
        )
    if isinstance(item.manifest, dict) and item.manifest.get("receipt") is not None:
        raise NotAllowed(f"item {item_id} already has a stored copy: it can only be finished, not cancelled")
    item.status = Status.CANCELLED
    item.lease_token += 1
    item.lease_owner = item.lease_expires_at = None
    item.completed_at = item.updated_at = clock.now()
    item.needs_attention = False
    item.note = printable(f"cancelled by {operator}: {reason}")
    if item.remote_node is not None and item.task in TRANSFER_TASKS:
        owe_notice(
            session,
            TransferCancellation(CancelReason.REJECT, reason),
            task=Task(item.task),
            transfer_id=item.identifier,
            peer=item.remote_node,
            item_id=item.id,
            pipelines=pipelines,
            clock=clock,
        )
    event = Event(EventType.OPERATOR_CANCEL, item.identifier, "cancelled", {"reason": reason}, item.id)
    record(session, [event], agent=operator, at=clock.now())
    return item


def acknowledge_item(session: Session, item_id: int, *, reason: str, operator: str, clock: Clock) -> WorkItem:
    """An operator has seen to an item that ended badly: it no longer calls for attention; its end stays as it is.

    Raises NoSuchItem, NotAllowed (it has not ended, or nothing is to be acknowledged).
    """
    item, operator = _locked(session, item_id), printable(operator, MAX_AGENT_CHARACTERS)
    if not Status(item.status).is_final:
        raise NotAllowed(
            f"item {item_id} has not ended ({item.status}): mend what its note says, retry or cancel it"
        )
    if not item.needs_attention:
        raise NotAllowed(f"item {item_id} does not call for attention")
    item.needs_attention = False
    item.updated_at = clock.now()
    event = Event(EventType.OPERATOR_ACKNOWLEDGE, item.identifier, item.status, {"reason": reason}, item.id)
    record(session, [event], agent=operator, at=clock.now())
    return item


def _locked(session: Session, item_id: int) -> WorkItem:
    item = session.get(WorkItem, item_id, with_for_update=True)
    if item is None:
        raise NoSuchItem(f"no work item {item_id}: `dpn items` lists what there is")
    return item
