"""The one way an item becomes final, whoever ends it, and what its pipeline owes others then.

An item ends because a stage says so, because its attempts are used up, because an operator cancels it, or because
what it was for has ended elsewhere. Each of these goes through `end_item`: status, note and what the pipeline owes
commit together, so that no end is without what follows from it. What has ended may be tried again by an operator;
the pipeline takes back then what it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.errors import LeaseLost
from dpn.work.leases import held_by
from dpn.work.notes import printable
from dpn.work.outcomes import FollowUp
from dpn.work.pipeline import Pipelines
from models.work import DiskReservation, Status, WorkItem, WorkProgress


class EndedBy(StrEnum):
    """Who chose that the item ends."""

    STAGE = "stage"
    """Its stage; `Ending.follow_up` is what the stage said."""
    NOBODY = "nobody"
    """It was given up: attempts are used up, or an error came that no further attempt would cure."""
    OPERATOR = "operator"
    ELSEWHERE = "elsewhere"
    """What the item is for has ended at another node."""


@dataclass(frozen=True)
class Ending:
    """The end of one item, as its pipeline needs to know it. The manifest may be damaged, and is not given."""

    item_id: int
    task: str
    identifier: str
    remote_node: str | None
    status: Status
    by: EndedBy
    reason: str
    """Why, in words for whoever is told."""
    follow_up: FollowUp | None = None


class Endings:
    """What a pipeline owes when its items end, and what it says to an operator's wishes. By default nothing."""

    def owe(self, session: Session, ending: Ending, *, pipelines: Pipelines, clock: Clock) -> None:
        """Writes down what is owed to others now that the item has ended, in the end's own transaction."""

    def take_back(self, session: Session, item: WorkItem, *, clock: Clock) -> None:
        """Withdraws what `owe` has written down and nobody has heard yet: the item is tried again."""

    def lock_for_retry(self, session: Session, item_id: int) -> None:
        """Locks what `refuse_retry` looks at, before the item's own row is locked."""

    def refuse_retry(self, session: Session, item: WorkItem) -> str | None:
        """Why the item, which has ended, must not be tried again, with what to do instead; None if it may."""
        return None

    def refuse_cancel(self, item: WorkItem) -> str | None:
        """Why an operator must not cancel the item, as what it is or has; None if that is allowed."""
        return None


def end_item(
    session: Session,
    ending: Ending,
    *,
    token: int | None,
    note: str,
    needs_attention: bool,
    pipelines: Pipelines,
    clock: Clock,
    values: Mapping[str, Any] | None = None,
) -> None:
    """Makes the item final. Raises LeaseLost, and changes nothing, if it is final or held by somebody else.

    `token` is that of the holder who ends it; None for others, who have locked its row: a worker that holds it
    loses its lease. `values` are further columns.
    """
    at = clock.in_database()
    changes: dict[str, Any] = {
        **(values or {}),
        "status": ending.status,
        "note": printable(note),
        "needs_attention": needs_attention,
        "waiting_since": None,
        "lease_owner": None,
        "lease_expires_at": None,
        "completed_at": at,
        "updated_at": at,
    }
    if token is None:
        changes["lease_token"] = WorkItem.lease_token + 1
    ended = session.execute(
        update(WorkItem)
        .where(held_by(ending.item_id, token) if token is not None else _is_open(ending.item_id))
        .values(**changes)
        .returning(WorkItem.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if ended is None:
        raise LeaseLost(f"item {ending.item_id} is no longer ours to end")
    if token is not None:  # else somebody may still write there: the staging sweep takes the promise back
        session.execute(delete(DiskReservation).where(DiskReservation.item_id == ending.item_id))
    session.execute(delete(WorkProgress).where(WorkProgress.item_id == ending.item_id))
    pipelines.of(ending.task).endings.owe(session, ending, pipelines=pipelines, clock=clock)


def _is_open(item_id: int) -> ColumnElement[bool]:
    return and_(WorkItem.id == item_id, WorkItem.status.in_((Status.PENDING, Status.RUNNING)))
