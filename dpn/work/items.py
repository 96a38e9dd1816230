"""Making work items, and what an operator may do to them."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.errors import PermanentError
from dpn.work.endings import EndedBy, Ending, end_item
from dpn.work.notes import printable
from dpn.work.pipeline import Pipelines
from dpn.work.queries import find_item
from dpn.work.transitions import announce
from models.manifests import ManifestUnreadable
from models.work import DEFAULT_PRIORITY, Status, WorkItem

MAX_AGENT_CHARACTERS = 255


class NotAllowed(PermanentError):
    """The item is in a state in which this may not be done; the text says which and what can be done."""


def new_item(
    *,
    task: str,
    identifier: str,
    remote_node: str | None,
    note: str,
    manifest: dict[str, Any],
    pipelines: Pipelines,
    clock: Clock,
    now: datetime | None = None,
    requester: str = "",
    priority: int = DEFAULT_PRIORITY,
) -> dict[str, Any]:
    """The row of an item at the start of its pipeline, due at once; inserted by `insert_missing`.

    `now`: the database's time, where the caller has asked for it already.
    """
    at = clock.in_database() if now is None else now
    first = pipelines.first(task)
    if first.shared and not requester:
        raise ValueError(f"stage {first.name} of task {task} is shared by requesters: an item without has no turn")
    return {
        "task": task,
        "identifier": identifier,
        "remote_node": remote_node,
        "requester": requester,
        "priority": priority,
        "stage": first.name,
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
    """Makes the item due now, with fresh budgets of attempts and restarts; what its end has made us owe others is
    withdrawn, if they have not heard it yet.

    Raises NoSuchItem; NotAllowed, also where its pipeline refuses because of what has come since.
    """
    endings = pipelines.of(find_item(session, item_id).task).endings
    endings.lock_for_retry(session, item_id)
    item, operator = find_item(session, item_id, lock=True), printable(operator, MAX_AGENT_CHARACTERS)
    if item.status == Status.SUCCESS:
        raise NotAllowed(f"item {item_id} has succeeded: there is nothing to retry")
    if item.status == Status.RUNNING:
        raise NotAllowed(f"item {item_id} is running at {item.lease_owner}: wait for it, or cancel it")
    if (why := endings.refuse_retry(session, item)) is not None:
        raise NotAllowed(f"item {item_id} stays as it is: {why}")
    item.status = Status.PENDING
    item.attempts = 0
    item.run_after, item.updated_at = clock.in_database(), clock.in_database()
    with suppress(ManifestUnreadable):  # then its stage says so
        manifest = pipelines.read_manifest(item.task, item.manifest)
        manifest.try_again()
        item.manifest = manifest.model_dump(mode="json")
    item.waiting_since = item.completed_at = None
    item.needs_attention = False
    item.lease_token += 1
    item.note = printable(f"retried by {operator}")
    endings.take_back(session, item, clock=clock)
    announce(session, item.id, pipelines.spec(item.task, item.stage).queue_on(item.staging_volume), clock.now())
    event = Event(EventType.OPERATOR_RETRY, item.identifier, "pending", {}, item.id)
    record(session, [event], agent=operator, at=clock.now())
    session.flush()
    session.refresh(item)  # the database has set its times
    return item


def cancel_item(
    session: Session, item_id: int, *, reason: str, operator: str, pipelines: Pipelines, clock: Clock
) -> WorkItem:
    """Ends the item as cancelled; a worker that runs it loses its lease; whoever waits for it will be told.

    Raises NoSuchItem; NotAllowed (it has ended already, or its pipeline refuses).
    """
    item, operator = find_item(session, item_id, lock=True), printable(operator, MAX_AGENT_CHARACTERS)
    if Status(item.status).is_final:
        raise NotAllowed(f"item {item_id} has already ended ({item.status}): nothing to cancel")
    if (why := pipelines.of(item.task).endings.refuse_cancel(item)) is not None:
        raise NotAllowed(f"item {item_id} {why}")
    ending = Ending(
        item_id=item.id,
        task=item.task,
        identifier=item.identifier,
        remote_node=item.remote_node,
        status=Status.CANCELLED,
        by=EndedBy.OPERATOR,
        reason=reason,
    )
    note = f"cancelled by {operator}: {reason}"
    end_item(session, ending, token=None, note=note, needs_attention=False, pipelines=pipelines, clock=clock)
    event = Event(EventType.OPERATOR_CANCEL, item.identifier, "cancelled", {"reason": reason}, item.id)
    record(session, [event], agent=operator, at=clock.now())
    session.refresh(item)
    return item


def acknowledge_item(session: Session, item_id: int, *, reason: str, operator: str, clock: Clock) -> WorkItem:
    """An operator has seen to an item that ended badly: it no longer calls for attention; its end stays as it is.

    Raises NoSuchItem, NotAllowed (it has not ended, or nothing is to be acknowledged).
    """
    item, operator = find_item(session, item_id, lock=True), printable(operator, MAX_AGENT_CHARACTERS)
    if not Status(item.status).is_final:
        raise NotAllowed(
            f"item {item_id} has not ended ({item.status}): fix what its note says, retry or cancel it"
        )
    if not item.needs_attention:
        raise NotAllowed(f"item {item_id} does not call for attention")
    item.needs_attention = False
    item.updated_at = clock.now()
    event = Event(EventType.OPERATOR_ACKNOWLEDGE, item.identifier, item.status, {"reason": reason}, item.id)
    record(session, [event], agent=operator, at=clock.now())
    return item
