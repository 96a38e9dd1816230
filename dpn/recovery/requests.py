"""Our requests for bags: restore transfers that this node owns. All of it in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Literal

from sqlalchemy import Text, cast, func, or_, select
from sqlalchemy.orm import Session

from dpn.recovery.errors import RequestRefused
from dpn.registry.catalogue import BAGS, RESTORES, add_restore, find, put_restore
from dpn.registry.records import PROTOCOL, RestoreRecord, why_cancelled
from dpn.registry.rules import Caller, CancelReason, Decision, Refused
from dpn.registry.wire import utc_second
from models.registry import RestoreTransfer
from models.work import Status, Task, WorkItem

ROWS_AT_ONCE = 500
IDS_AT_ONCE = 50

RequestState = Literal["requested", "accepted", "staged", "finished", "cancelled"]


def open_request(
    session: Session, *, bag: str, from_node: str, us: str, restore_id: str, now: datetime
) -> RestoreRecord:
    """Asks `from_node` for the bag; it hears of it when it next reads our registry.

    With an id that was used for the very same before, it is that request that is answered, however far it has
    come. Until the transaction ends, nobody else opens one for this bag. Raises RequestRefused.
    """
    find(session, BAGS, bag, lock=True)
    present = find(session, RESTORES, restore_id)
    if present is not None:
        if (present.bag, present.from_node, present.to_node) != (bag, from_node, us):
            raise RequestRefused(
                f"restore transfer {restore_id} is about bag {present.bag} from {present.from_node} to "
                f"{present.to_node}: take another id"
            )
        return present
    second = utc_second(now)
    proposed = RestoreRecord(
        restore_id=restore_id,
        bag=bag,
        from_node=from_node,
        to_node=us,
        protocol=PROTOCOL,
        created_at=second,
        updated_at=second,
    )
    remedy = "`dpn sync` brings what the nodes know; [peers] in the settings names them"
    return _accepted(add_restore(session, proposed, caller=Caller(us, us)), f"ask {from_node} for it", remedy)


def request_of(session: Session, restore_id: str) -> RestoreRecord | None:
    """The restore transfer with this id, whoever's it is; None if there is none."""
    return find(session, RESTORES, restore_id)


def open_requests(session: Session, bag: str, *, us: str, lock: bool = False) -> list[RestoreRecord]:
    """Our requests for the bag that are neither finished nor cancelled, oldest first.

    With `lock` nobody else opens one until the transaction ends.
    """
    if lock:
        find(session, BAGS, bag, lock=True)
    columns = RESTORES.table.c
    is_open = (columns.bag == bag) & (columns.to_node == us) & ~columns.finished & ~columns.cancelled
    statement = select(RESTORES.table).where(is_open).order_by(columns.created_at, columns.restore_id)
    return [RESTORES.read(row) for row in session.execute(statement).mappings()]


def count_open_requests(session: Session, node: str, *, us: str, most: int) -> int:
    """How many bags we have asked `node` for that it has not given yet; counts to `most`, and reads no more."""
    asked = RestoreTransfer
    is_open = (asked.from_node == node, asked.to_node == us, asked.finished.is_(False), asked.cancelled.is_(False))
    few = select(asked.restore_id).where(*is_open).limit(most).subquery()
    return session.execute(select(func.count()).select_from(few)).scalar_one()


def our_requests(session: Session, *, us: str) -> Iterator[RestoreRecord]:
    """All our requests, those that changed last at the end."""
    columns = RESTORES.table.c
    statement = (
        select(RESTORES.table).where(columns.to_node == us).order_by(columns.updated_at, columns.restore_id)
    )
    for row in session.execute(statement.execution_options(yield_per=ROWS_AT_ONCE)).mappings():
        yield RESTORES.read(row)


def state(record: RestoreRecord) -> RequestState:
    """How far a request has come, in one word (see dpn.registry.rules.restores)."""
    if record.cancelled:
        return "cancelled"
    if record.finished:
        return "finished"
    if record.link is not None:
        return "staged"
    return "accepted" if record.accepted else "requested"


def items_asking(session: Session, restore_ids: Collection[str]) -> dict[str, int]:
    """The items that made these requests, where one did that has not ended: it moves them on by itself."""
    asking: dict[str, int] = {}
    text = cast(WorkItem.manifest, Text)
    wanted = list(restore_ids)
    for start in range(0, len(wanted), IDS_AT_ONCE):
        batch = wanted[start : start + IDS_AT_ONCE]
        statement = select(WorkItem.id, text).where(
            WorkItem.task == Task.RECOVERY,
            WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
            or_(*(text.contains(restore_id) for restore_id in batch)),
        )
        for item, manifest in session.execute(statement):
            asking.update({restore_id: item for restore_id in batch if restore_id in manifest})
    return asking


def finish(session: Session, restore_id: str, *, us: str, now: datetime) -> RestoreRecord:
    """Says that we have the bag: the node that gave it may clear it away. Safe to repeat.

    Raises RequestRefused: there is no such request of ours, it was cancelled, or it never had a link.
    """
    current = _ours(session, restore_id, us)
    if current.cancelled:
        raise RequestRefused(
            f"request {restore_id} was cancelled ({why_cancelled(current)}): it cannot be finished. What came "
            f"may be kept; {current.from_node} is not told of it"
        )
    proposed = current.change(finished=True)
    decision = put_restore(session, restore_id, proposed, caller=Caller(us, us), now=now)
    return _accepted(
        decision, f"finish request {restore_id}", f"`dpn restore show {restore_id}` tells how it stands"
    )


def give_up(session: Session, restore_id: str, *, us: str, reason_detail: str, now: datetime) -> RestoreRecord:
    """Cancels a request of ours; the node that was asked stops when it next looks. Safe to repeat.

    The first reason given stays. Raises RequestRefused: there is no such request of ours, or it is finished.
    """
    current = _ours(session, restore_id, us)
    if current.cancelled:
        return current
    if current.finished:
        raise RequestRefused(f"request {restore_id} is finished: the bag came, there is nothing to cancel")
    proposed = current.model_copy(
        update={
            "cancelled": True,
            "cancel_reason": CancelReason.OTHER.value,
            "cancel_reason_detail": reason_detail,
        }
    )
    decision = put_restore(session, restore_id, proposed, caller=Caller(us, us), now=now)
    return _accepted(
        decision, f"cancel request {restore_id}", f"`dpn restore show {restore_id}` tells how it stands"
    )


def _ours(session: Session, restore_id: str, us: str) -> RestoreRecord:
    current = find(session, RESTORES, restore_id, lock=True)
    if current is None:
        raise RequestRefused(f"no restore transfer {restore_id}: `dpn restore list` shows those that there are")
    if current.to_node != us:
        raise RequestRefused(
            f"restore transfer {restore_id} is {current.to_node}'s, not ours: {current.to_node} moves it on"
        )
    return current


def _accepted(decision: Decision[RestoreRecord], what: str, remedy: str) -> RestoreRecord:
    if isinstance(decision, Refused):
        why = "; ".join(decision.messages) or f"HTTP {decision.status}"
        raise RequestRefused(f"our registry does not let us {what}: {why}. {remedy}")
    return decision.record
