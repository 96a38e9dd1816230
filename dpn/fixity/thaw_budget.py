"""The budget of what is asked out of cold storage. Each request is noted before it is made: it is billed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import Sessions
from dpn.fixity.copies import lock_pace
from models.preservation import ColdRequest

MONTH = timedelta(days=30)
KEPT_FOR = 12 * MONTH


@dataclass(frozen=True)
class NoBudget:
    """The request has to wait; `until` is when enough of the budget is free again, None if it never is."""

    why: str
    until: datetime | None


@dataclass(frozen=True)
class ColdBudget:
    """How many bytes may be asked for in 30 days; 0: any number. Requests are noted either way."""

    sessions: Sessions
    bytes_per_month: int
    clock: Clock

    def take(self, item_id: int, *, bag: str, size: int, tier: str, again: bool) -> NoBudget | None:
        """Notes a request, if the budget allows it. Done anew for one that was not answered, it is counted once.

        `again`: whether an earlier request of this item was answered, so that this is another one.
        """
        with self.sessions.begin() as session:
            lock_pace(session)  # two at once do not both take what is left
            now = session.execute(select(self.clock.in_database())).scalar_one()
            if not again and _noted(session, item_id):
                return None
            if (refusal := self._refusal(session, size, now)) is not None:
                return refusal
            session.execute(delete(ColdRequest).where(ColdRequest.requested_at < now - KEPT_FOR))
            session.add(ColdRequest(item_id=item_id, bag=bag, tier=tier, bytes=size, requested_at=now))
            return None

    def give_back(self, item_id: int) -> None:
        """The store has not taken the item's last request: it is not billed."""
        with self.sessions.begin() as session:
            last = select(func.max(ColdRequest.id)).where(ColdRequest.item_id == item_id).scalar_subquery()
            session.execute(delete(ColdRequest).where(ColdRequest.id == last))

    def note(self, *, bag: str, size: int, tier: str) -> int:
        """Counts a request that an operator is about to make by a command, which is not held back; returns what
        `forget` needs."""
        with self.sessions.begin() as session:
            now = session.execute(select(self.clock.in_database())).scalar_one()
            request = ColdRequest(item_id=None, bag=bag, tier=tier, bytes=size, requested_at=now)
            session.add(request)
            session.flush()
            return request.id

    def forget(self, noted: int) -> None:
        """The store has not taken the operator's request: it is not billed."""
        with self.sessions.begin() as session:
            session.execute(delete(ColdRequest).where(ColdRequest.id == noted))

    def _refusal(self, session: Session, size: int, now: datetime) -> NoBudget | None:
        most = self.bytes_per_month
        if not most:
            return None
        if size > most:
            return NoBudget(f"{size} bytes are more than the budget of a month, {most} bytes", None)
        statement = select(ColdRequest.requested_at, ColdRequest.bytes).where(
            ColdRequest.requested_at > now - MONTH
        )
        requests = [(row.requested_at, row.bytes) for row in session.execute(statement)]
        until = free_again(requests, size, most)
        if until is None:
            return None
        spent = sum(asked for _, asked in requests)
        return NoBudget(f"{spent} of {most} bytes were asked for in the last 30 days", until)


def free_again(requests: Iterable[tuple[datetime, int]], size: int, most: int) -> datetime | None:
    """When `size` bytes fit into the budget `most` again, by the requests of the last 30 days; none: now."""
    ordered = sorted(requests)
    spent = sum(asked for _, asked in ordered)
    until = None
    for at, asked in ordered:
        if spent + size <= most:
            break
        spent -= asked
        until = at + MONTH
    return until


def _noted(session: Session, item_id: int) -> bool:
    return session.scalar(select(ColdRequest.id).where(ColdRequest.item_id == item_id).limit(1)) is not None
