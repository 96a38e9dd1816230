"""Adds events to the trail in the transaction of the change that they tell of; never changes or removes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from models.work import AuditEvent


class EventType(StrEnum):
    """What may happen. The first group are terms of the PREMIS event type vocabulary."""

    TRANSFER = "transfer"
    MESSAGE_DIGEST_CALCULATION = "message digest calculation"
    VALIDATION = "validation"
    QUARANTINE = "quarantine"
    REPLICATION = "replication"
    DELETION = "deletion"
    IDENTIFIER_ASSIGNMENT = "identifier assignment"
    INGESTION = "ingestion"
    PACKING = "packing"
    FIXITY_CHECK = "fixity check"
    DISSEMINATION = "dissemination"

    ITEM_CREATED = "item created"
    STAGE_ENDED = "stage ended"
    STAGED_COPY_LOST = "staged copy lost"
    RESTORE_REQUESTED = "restore requested"
    COPY_REQUESTED = "copy requested"
    """From another node, to repair ours or for a drill; and what came of it."""
    COPY_REPLACED = "copy replaced"
    """Ours, found bad, by a good one."""
    COPY_ADOPTED = "copy adopted"
    """Found in our store, proven, and made known again."""
    ITEM_REOPENED = "item reopened"
    ITEM_CLOSED = "item closed"
    RECORD_CORRECTED = "record corrected"
    OPERATOR_ALLOW = "operator allow"
    OPERATOR_RETRY = "operator retry"
    OPERATOR_CANCEL = "operator cancel"
    OPERATOR_ACKNOWLEDGE = "operator acknowledge"
    PEER_INFORMED = "peer informed"


@dataclass(frozen=True)
class Event:
    """One thing that happened. `object_id` is a bag's uuid where it is about a bag."""

    event_type: EventType
    object_id: str
    outcome: str
    detail: dict[str, Any] = field(default_factory=dict)
    item_id: int | None = None


def record(session: Session, events: Sequence[Event], *, agent: str, at: datetime, again: bool = False) -> None:
    """Adds `events` in the session's transaction, in one statement.

    `again`: a commit whose answer was lost may have added them, at this very time: then nothing is added.
    """
    if not events or (again and _is_recorded(session, events[0], agent, at)):
        return
    session.execute(
        insert(AuditEvent),
        [
            {
                "occurred_at": at,
                "event_type": event.event_type,
                "object_id": event.object_id,
                "item_id": event.item_id,
                "agent": agent,
                "outcome": event.outcome,
                "detail": event.detail,
            }
            for event in events
        ],
    )


def _is_recorded(session: Session, event: Event, agent: str, at: datetime) -> bool:
    recorded = select(AuditEvent.id).where(
        AuditEvent.object_id == event.object_id,
        AuditEvent.event_type == event.event_type,
        AuditEvent.item_id == event.item_id,
        AuditEvent.agent == agent,
        AuditEvent.occurred_at == at,
    )
    return session.scalars(recorded.limit(1)).first() is not None


def events_of_object(session: Session, object_id: str, *, limit: int = 200) -> list[AuditEvent]:
    """The newest `limit` events that tell of an object (a bag, by its uuid), oldest first."""
    newest = (
        select(AuditEvent).where(AuditEvent.object_id == object_id).order_by(AuditEvent.id.desc()).limit(limit)
    )
    return list(reversed(session.scalars(newest).all()))


def events_of_item(session: Session, item_id: int, *, limit: int = 200) -> list[AuditEvent]:
    """The newest `limit` events of an item, oldest first."""
    newest = select(AuditEvent).where(AuditEvent.item_id == item_id).order_by(AuditEvent.id.desc()).limit(limit)
    return list(reversed(session.scalars(newest).all()))
