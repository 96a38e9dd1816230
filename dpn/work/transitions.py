"""Applies changes to held items: manifest, stage, status, events and dispatch intent commit together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, update
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import insert_missing
from dpn.work.leases import Claim, write_fenced
from dpn.work.lifecycle import Change
from dpn.work.notes import printable
from dpn.work.outcomes import TransferCancellation
from dpn.work.pipeline import Pipelines
from models.manifests import NoticeManifest
from models.work import DiskReservation, DispatchIntent, Status, Task, WorkItem

TRANSFER_TASKS = (Task.REPLICATION, Task.RESTORE)
"""Whose items belong to a transfer that another node owns."""


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
) -> None:
    """Persists what a running stage has reached. Raises LeaseLost."""
    values = {
        "manifest": manifest,
        "staging_volume": staging_volume,
        "note": printable(note),
        "updated_at": clock.in_database(),
    }
    write_fenced(session, claim.item_id, claim.token, values)
    record(session, events, agent=worker, at=clock.now())


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
) -> None:
    """Ends a run of a stage with `change`, and the lease with it. Raises LeaseLost; then nothing is changed.

    Without a manifest, what was last saved stays: the manifest and the volume that it speaks of.
    """
    volume = None if change.leaves_volume else staging_volume
    values = {
        "stage": change.stage,
        "status": change.status,
        "attempts": change.attempts,
        "run_after": clock.in_database(change.delay_seconds),
        "waiting_since": change.waiting_since,
        "note": printable(change.note),
        "needs_attention": change.needs_attention,
        "lease_owner": None,
        "lease_expires_at": None,
        "updated_at": clock.in_database(),
        "completed_at": clock.in_database() if change.status.is_final else None,
    }
    if manifest is not None:
        values["manifest"] = manifest
    if manifest is not None or change.leaves_volume:
        values["staging_volume"] = volume
    write_fenced(session, claim.item_id, claim.token, values)
    if change.leaves_volume:
        session.execute(delete(DiskReservation).where(DiskReservation.item_id == claim.item_id))
    record(session, events, agent=worker, at=clock.now())
    if change.dispatch:
        announce(session, claim.item_id, pipelines.spec(claim.task, change.stage).topic_on(volume), clock.now())
    if change.tell_owner is not None and claim.remote_node is not None and claim.task in TRANSFER_TASKS:
        owe_notice(
            session,
            change.tell_owner,
            task=Task(claim.task),
            transfer_id=claim.identifier,
            peer=claim.remote_node,
            item_id=claim.item_id,
            pipelines=pipelines,
            clock=clock,
        )


def announce(session: Session, item_id: int, topic: str, now: datetime) -> None:
    """Intends a message on `topic`, to be published once the transaction has committed."""
    announce_all(session, [(item_id, topic)], now)


def announce_all(session: Session, messages: Sequence[tuple[int, str]], now: datetime) -> None:
    """Intends a message for each (item, topic), all in one statement."""
    if messages:
        rows = [{"item_id": item_id, "topic": topic, "created_at": now} for item_id, topic in messages]
        session.execute(insert(DispatchIntent), rows)


def owe_notice(
    session: Session,
    cancellation: TransferCancellation,
    *,
    task: Task,
    transfer_id: str,
    peer: str,
    item_id: int | None,
    pipelines: Pipelines,
    clock: Clock,
    again: bool = False,
) -> None:
    """Makes the work item that tells `peer` of a cancelled transfer until it has heard; one for a transfer.

    `task` says of which kind the transfer is: a replication to us, or a restore from us.
    One that is under way or heard stays as it is; one that was withdrawn, or failed, is owed anew. `again`: so is
    one that was heard, because the peer has forgotten it.
    """
    detail = printable(cancellation.detail)
    manifest = NoticeManifest(
        kind="restore" if task is Task.RESTORE else "replication",
        replication_id=transfer_id,
        cancel_reason=cancellation.reason.value,
        cancel_reason_detail=detail,
        caused_by_item=item_id,
    )
    due = {
        "status": Status.PENDING,
        "attempts": 0,
        "run_after": clock.in_database(),
        "note": f"{peer} is to be told: {cancellation.reason.value}: {detail}",
        "needs_attention": False,
        "manifest": manifest.model_dump(mode="json"),
        "updated_at": clock.in_database(),
    }
    row = {
        "task": Task.NOTICE,
        "identifier": notice_identifier(task, transfer_id),
        "remote_node": peer,
        "stage": pipelines.first(Task.NOTICE).name,
        "lease_token": 0,
        "created_at": clock.in_database(),
        **due,
    }
    if not insert_missing(session, WorkItem, [row]):
        ended = (Status.CANCELLED, Status.FAILED, *((Status.SUCCESS,) if again else ()))
        given_up = (_is_notice_of(task, transfer_id), WorkItem.status.in_(ended))
        session.execute(update(WorkItem).where(*given_up).values(**due, completed_at=None, waiting_since=None))
    notice = Event(EventType.ITEM_CREATED, transfer_id, "pending", {"task": Task.NOTICE.value}, item_id)
    record(session, [notice], agent="runner", at=clock.now())


def withdraw_notice(session: Session, item: WorkItem, *, clock: Clock) -> None:
    """Ends what we owe the owner of `item`'s transfer, unless it has heard: the item is being worked on again.

    A worker that is telling it just now loses its lease.
    """
    if item.task not in TRANSFER_TASKS:
        return
    session.execute(
        update(WorkItem)
        .where(_is_notice_of(Task(item.task), item.identifier), WorkItem.status != Status.SUCCESS)
        .values(
            status=Status.CANCELLED,
            lease_token=WorkItem.lease_token + 1,
            lease_owner=None,
            lease_expires_at=None,
            needs_attention=False,
            note=f"withdrawn: item {item.id} is retried",
            completed_at=clock.in_database(),
            updated_at=clock.in_database(),
        )
        .execution_options(synchronize_session=False)
    )


def notice_identifier(task: Task, transfer_id: str) -> str:
    """What the item is called that tells of a transfer's end. Whoever makes a restore transfer chooses its id: it
    may be that of a replication."""
    return transfer_id if task is Task.REPLICATION else f"{task.value}:{transfer_id}"


def _is_notice_of(task: Task, transfer_id: str) -> ColumnElement[bool]:
    return and_(WorkItem.task == Task.NOTICE, WorkItem.identifier == notice_identifier(task, transfer_id))
