"""A message from outside becomes rows in one transaction, and only then is it settled where it came from.

A message that comes again because its settling was lost is the same request; the same body sent twice is two. How
the two are told apart depends on what the broker tells: an id that stays the same when it delivers again, or just
that it does. In the second case a message is a repetition if its body is that of one not yet settled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from uuid import uuid4

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import Sessions
from models.messages import ReceivedMessage

KEPT_DAYS = 30.0
"""How long a received message is known; longer than any broker keeps one."""
FORGOTTEN_AT_ONCE = 1000


@dataclass(frozen=True)
class Incoming:
    """A message as a broker delivers it."""

    body: bytes
    message_id: str | None = None
    """What the broker calls it, if that stays the same when it is delivered again."""
    redelivered: bool = False
    """Whether the broker says that it has delivered it before; matters where it gives no such id."""
    position: int | None = None
    """Its offset in a stream."""
    delivery: str = field(default_factory=lambda: str(uuid4()))
    """Ours for this one delivery: whoever tries again because nothing was heard of a commit finds it by that."""


@dataclass(frozen=True)
class Reception:
    """What became of a message."""

    id: int
    item_id: int | None
    """None if it was refused: then the refusal is owed."""
    is_new: bool


class Intake(Protocol):
    """What makes an item of a message."""

    def take(self, session: Session, door: str, body: bytes, *, clock: Clock) -> int | None:
        """Makes an item, with its first steps, and returns its id; or owes the refusal, and returns None.

        All in the session's transaction, without I/O. Whatever the body is, it is one of the two.
        """
        ...


def receive(sessions: Sessions, door: str, incoming: Incoming, intake: Intake, *, clock: Clock) -> Reception:
    """Makes rows of the message, unless it is known. Commits before it returns; only then may it be settled.

    Raises what the database does if it is away; then nothing was changed, or the message is known next time.
    """
    digest = hashlib.sha256(incoming.body).hexdigest()
    try:
        return _receive(sessions, door, incoming, intake, digest, clock)
    except IntegrityError:  # somebody else had it at the same moment: now it is known
        return _receive(sessions, door, incoming, intake, digest, clock)


def _receive(
    sessions: Sessions, door: str, incoming: Incoming, intake: Intake, digest: str, clock: Clock
) -> Reception:
    with sessions.begin() as session:
        now = session.execute(select(clock.in_database())).scalar_one()
        if known := _known(session, door, incoming, digest):
            known.delivered_at, known.delivery = now, incoming.delivery
            return Reception(known.id, known.item_id, is_new=False)
        row = ReceivedMessage(
            door=door,
            message_id=incoming.message_id,
            delivery=incoming.delivery,
            digest=digest,
            position=incoming.position,
            item_id=None,
            received_at=now,
            delivered_at=now,
        )
        session.add(row)
        session.flush()  # before the item: of two that receive the same id at once, one stops here
        row.item_id = intake.take(session, door, incoming.body, clock=clock)
        session.flush()
        return Reception(row.id, row.item_id, is_new=True)


def note_settled(sessions: Sessions, received_ids: Sequence[int], *, clock: Clock) -> None:
    """The broker has been told that these need not be delivered again."""
    if not received_ids:
        return
    with sessions.begin() as session:
        settled = update(ReceivedMessage).where(ReceivedMessage.id.in_(received_ids))
        session.execute(settled.values(settled_at=clock.in_database()))


def forget_received(sessions: Sessions, *, clock: Clock, kept_days: float = KEPT_DAYS) -> int:
    """Removes what was received that long ago, a batch at a time; returns how much. Items stay."""
    forgotten = 0
    while True:
        with sessions.begin() as session:
            old = (
                select(ReceivedMessage.id)
                .where(ReceivedMessage.received_at < clock.in_database(-kept_days * 86_400))
                .limit(FORGOTTEN_AT_ONCE)
            )
            removed = session.execute(delete(ReceivedMessage).where(ReceivedMessage.id.in_(old)))
            count = cast("CursorResult[Any]", removed).rowcount
        forgotten += count
        if count < FORGOTTEN_AT_ONCE:
            return forgotten


def _known(session: Session, door: str, incoming: Incoming, digest: str) -> ReceivedMessage | None:
    """The row of an earlier delivery of this very message."""
    of_door = select(ReceivedMessage).where(ReceivedMessage.door == door)
    this_very = select(ReceivedMessage).where(ReceivedMessage.delivery == incoming.delivery)
    if (known := session.scalars(this_very).one_or_none()) is not None:
        return known
    if incoming.message_id is not None:
        return session.scalars(of_door.where(ReceivedMessage.message_id == incoming.message_id)).one_or_none()
    if not incoming.redelivered:
        return None
    # Of several that are alike each delivery is another one's: the one that was delivered longest ago.
    alike = of_door.where(ReceivedMessage.digest == digest, ReceivedMessage.settled_at.is_(None))
    oldest = alike.order_by(ReceivedMessage.delivered_at, ReceivedMessage.id).limit(1)
    return session.scalars(oldest.with_for_update(skip_locked=True)).first()
