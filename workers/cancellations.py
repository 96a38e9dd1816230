"""That we gave a transfer up, told to the node whose transfer it is: written down with the end, told until heard.

The node is a replication's owner, or the one that asked for a restore. What is to be told is an item of the notice
pipeline, one for a transfer; the stage `tell` does the telling.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, update
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import insert_missing
from dpn.registry.rules.flags import MAX_DETAIL_LENGTH, CancelReason
from dpn.text import without_folders
from dpn.work.endings import EndedBy, Ending
from dpn.work.notes import printable
from dpn.work.outcomes import FollowUp
from dpn.work.pipeline import Pipelines
from models.manifests import NoticeManifest
from models.work import Status, Task, WorkItem
from workers.endings import StoringEndings


@dataclass(frozen=True)
class TransferCancellation(FollowUp):
    """What the node whose transfer it is must be told when we give it up; not where our files lie."""

    reason: CancelReason
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", without_folders(self.detail)[:MAX_DETAIL_LENGTH])


class TransferEndings(StoringEndings):
    """Of items of another node's transfer: that node hears that we gave it up, whoever ended the item."""

    def owe(self, session: Session, ending: Ending, *, pipelines: Pipelines, clock: Clock) -> None:
        cancellation = _cancellation(ending)
        if cancellation is not None and ending.remote_node is not None:
            owe_notice(
                session,
                cancellation,
                task=Task(ending.task),
                transfer_id=ending.identifier,
                peer=ending.remote_node,
                item_id=ending.item_id,
                pipelines=pipelines,
                clock=clock,
            )

    def take_back(self, session: Session, item: WorkItem, *, clock: Clock) -> None:
        """A worker that is telling it just now loses its lease."""
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


def _cancellation(ending: Ending) -> TransferCancellation | None:
    match ending.by:
        case EndedBy.STAGE if isinstance(ending.follow_up, TransferCancellation):
            return ending.follow_up
        case EndedBy.NOBODY:
            return TransferCancellation(CancelReason.OTHER, ending.reason)
        case EndedBy.OPERATOR:
            return TransferCancellation(CancelReason.REJECT, ending.reason)
    return None


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


def notice_identifier(task: Task, transfer_id: str) -> str:
    """What the item is called that tells of a transfer's end. Whoever makes a restore transfer chooses its id: it
    may be that of a replication."""
    return transfer_id if task is Task.REPLICATION else f"{task.value}:{transfer_id}"


def _is_notice_of(task: Task, transfer_id: str) -> ColumnElement[bool]:
    return and_(WorkItem.task == Task.NOTICE, WorkItem.identifier == notice_identifier(task, transfer_id))
