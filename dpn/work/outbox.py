"""What is owed to others outside, as messages: written down with what causes it, sent until it was taken.

Several processes may send at once. One that dies between sending and noting it has the message sent once more:
whoever gets it must bear that. Order is kept as far as nothing fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import Sessions, insert_missing, reading
from dpn.errors import ServiceUnavailable, TransientError
from dpn.work.notes import printable
from models.messages import OwedMessage

BATCH = 50
HELD_SECONDS = 120.0
"""How long who has taken a message to send has for it; then another one may."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
KEPT_DAYS = 30.0
FORGOTTEN_AT_ONCE = 1000
MAX_ERROR_CHARACTERS = 1000


class Sender(Protocol):
    """Sends messages to one destination."""

    destination: str

    def send(self, body: str) -> None:
        """Returns once the message was taken. Raises ServiceUnavailable if nothing can be sent there now, and
        TransientError if this one was not taken."""
        ...


@dataclass(frozen=True)
class Unsent:
    """What still waits to be sent somewhere."""

    destination: str
    count: int
    oldest_at: datetime
    last_error: str


def owe(session: Session, *, key: str, destination: str, body: str, item_id: int | None, clock: Clock) -> bool:
    """Owes the message from now on; returns false, and changes nothing, if one of that key is owed or was sent."""
    row = {
        "key": key,
        "destination": destination,
        "body": body,
        "item_id": item_id,
        "attempts": 0,
        "next_try_at": clock.in_database(),
        "created_at": clock.in_database(),
        "last_error": "",
    }
    return insert_missing(session, OwedMessage, [row]) == 1


def withdraw(session: Session, item_id: int) -> int:
    """Forgets what is owed of the item and was not sent yet; returns how much. What is being sent at this moment
    may arrive all the same."""
    unsent = (OwedMessage.item_id == item_id, OwedMessage.sent_at.is_(None))
    return cast("CursorResult[Any]", session.execute(delete(OwedMessage).where(*unsent))).rowcount


def count_of_item(session: Session, item_id: int) -> int:
    """How many messages were or are owed of the item."""
    return session.scalar(select(func.count()).where(OwedMessage.item_id == item_id)) or 0


def send_due(sessions: Sessions, sender: Sender, *, clock: Clock) -> int:
    """Sends what is due at the sender's destination, oldest first; returns how many messages were taken.

    What was not taken waits, longer each time, for itself. Raises ServiceUnavailable if the destination is away:
    what was not sent is due again a moment later.
    """
    sent = 0
    while messages := _take(sessions, sender.destination, clock):
        batch = _Batch(messages, until=clock.monotonic() + HELD_SECONDS / 2)
        try:
            batch.send(sender, clock)
        finally:
            with sessions.begin() as session:
                batch.note(session, clock)
        sent += len(batch.sent)
    return sent


def unsent(session: Session) -> list[Unsent]:
    """What waits to be sent, a line for each destination: reads only what waits."""
    waiting = OwedMessage.sent_at.is_(None)
    rows = session.execute(
        select(
            OwedMessage.destination,
            func.count(),
            func.min(OwedMessage.created_at),
            func.max(OwedMessage.last_error),
        )
        .where(waiting)
        .group_by(OwedMessage.destination)
        .order_by(OwedMessage.destination)
    )
    return [Unsent(*row) for row in rows]


def forget_sent(sessions: Sessions, *, clock: Clock, kept_days: float = KEPT_DAYS) -> int:
    """Removes what was sent that long ago, a batch at a time; returns how much."""
    forgotten = 0
    while True:
        with sessions.begin() as session:
            old = (
                select(OwedMessage.id)
                .where(OwedMessage.sent_at < clock.in_database(-kept_days * 86_400))
                .limit(FORGOTTEN_AT_ONCE)
            )
            removed = session.execute(delete(OwedMessage).where(OwedMessage.id.in_(old)))
            count = cast("CursorResult[Any]", removed).rowcount
        forgotten += count
        if count < FORGOTTEN_AT_ONCE:
            return forgotten


def pause_seconds(attempts: int) -> float:
    """How long a message waits that was not taken so many times."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts, 20))


@dataclass(frozen=True)
class _Taken:
    id: int
    body: str
    attempts: int


@dataclass
class _Batch:
    """Messages that nobody else sends for a while, and what became of them."""

    messages: Sequence[_Taken]
    until: float
    """By the monotonic clock: what is not begun by then is left, well before another may send it."""
    sent: list[int] = field(default_factory=list)
    refused: list[tuple[_Taken, str]] = field(default_factory=list)
    away: str = "who sends it was slow, or broke off"
    """Why the rest was not sent."""

    def send(self, sender: Sender, clock: Clock) -> None:
        for message in self.messages:
            if clock.monotonic() >= self.until:
                return
            try:
                sender.send(message.body)
            except ServiceUnavailable as error:
                self.away = str(error)
                raise
            except TransientError as error:
                self.refused.append((message, str(error)))
            else:
                self.sent.append(message.id)

    def note(self, session: Session, clock: Clock) -> None:
        tried = {*self.sent, *(message.id for message, _ in self.refused)}
        left = [message.id for message in self.messages if message.id not in tried]
        now = clock.in_database()
        _change(session, self.sent, sent_at=now, last_error="")
        for message, error in self.refused:
            pause = clock.in_database(pause_seconds(message.attempts))
            _change(session, [message.id], attempts=message.attempts + 1, next_try_at=pause, last_error=error)
        _change(session, left, next_try_at=clock.in_database(FIRST_PAUSE_SECONDS), last_error=self.away)


def _change(session: Session, ids: Sequence[int], *, last_error: str, **values: Any) -> None:
    if ids:
        values["last_error"] = printable(last_error, MAX_ERROR_CHARACTERS)
        session.execute(update(OwedMessage).where(OwedMessage.id.in_(ids)).values(**values))


def _take(sessions: Sessions, destination: str, clock: Clock) -> list[_Taken]:
    """A batch of due messages, held from now on."""
    due = (
        select(OwedMessage.id)
        .where(
            OwedMessage.sent_at.is_(None),
            OwedMessage.destination == destination,
            OwedMessage.next_try_at <= clock.in_database(),
        )
        .order_by(OwedMessage.next_try_at, OwedMessage.id)
        .limit(BATCH)
    )
    with reading(sessions) as session:  # most of the time there is nothing, and no writer is made to wait
        if session.scalars(due.limit(1)).first() is None:
            return []
    held = (
        update(OwedMessage)
        .where(OwedMessage.id.in_(due.with_for_update(skip_locked=True)))
        .values(next_try_at=clock.in_database(HELD_SECONDS))
        .returning(OwedMessage.id, OwedMessage.body, OwedMessage.attempts)
        .execution_options(synchronize_session=False)
    )
    with sessions.begin() as session:
        return [_Taken(*row) for row in sorted(session.execute(held))]
