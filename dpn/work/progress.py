"""How far a running stage is, for whoever looks: told by the stage as often as it likes, written now and then by
whoever keeps its lease, in the same statement for all items that a worker holds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import insert_into
from dpn.work.notes import printable
from models.work import Status, WorkItem, WorkProgress

WRITE_SECONDS = 2.0
"""How often at most it is written."""

RATE_SECONDS = 10.0
"""Over how long the rate is taken."""

MAX_DOING_CHARACTERS = 255


@dataclass(frozen=True)
class Reached:
    """How far a stage was at some moment."""

    doing: str
    bytes_done: int
    bytes_total: int | None
    files_done: int
    files_total: int | None
    bytes_per_second: float | None = None
    at: datetime | None = None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None where nobody can know."""
        if self.bytes_total is None or not self.bytes_per_second:
            return None
        return max(0, self.bytes_total - self.bytes_done) / self.bytes_per_second


class StageProgress:
    """What one run of a stage tells of itself. Thread-safe, and as cheap as adding numbers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reached = Reached("", 0, None, 0, None)
        self._changed = False
        self._seen: deque[tuple[float, int]] = deque()

    def begin(self, doing: str, *, bytes_total: int | None = None, files_total: int | None = None) -> None:
        """From now on the stage does this; counts begin at nothing."""
        with self._lock:
            doing = printable(doing, MAX_DOING_CHARACTERS)
            self._reached = Reached(doing, 0, bytes_total, 0, files_total)
            self._seen = deque([(self._clock.monotonic(), 0)])
            self._changed = True

    def reach(
        self,
        bytes_done: int,
        files_done: int | None = None,
        *,
        bytes_total: int | None = None,
        files_total: int | None = None,
    ) -> None:
        """So much is done, of so much if that has become known."""
        with self._lock:
            was = self._reached
            self._reached = Reached(
                was.doing,
                bytes_done,
                was.bytes_total if bytes_total is None else bytes_total,
                was.files_done if files_done is None else files_done,
                was.files_total if files_total is None else files_total,
            )
            self._changed = self._changed or self._reached != was

    @property
    def is_news(self) -> bool:
        """Whether `news` would say something."""
        return self._changed

    def news(self) -> Reached | None:
        """How far it is now, with its rate; None if that was said before."""
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            now, reached = self._clock.monotonic(), self._reached
            self._seen.append((now, reached.bytes_done))
            while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_SECONDS:
                self._seen.popleft()
            since, before = self._seen[0]
            rate = (reached.bytes_done - before) / (now - since) if now > since else None
            return Reached(
                reached.doing,
                reached.bytes_done,
                reached.bytes_total,
                reached.files_done,
                reached.files_total,
                None if rate is None or rate < 0 else rate,
            )


def write(session: Session, news: Mapping[tuple[int, int], Reached], *, clock: Clock) -> None:
    """Writes how far these items (by id and token) are, all in one statement. Not fenced: it decides nothing, and
    what another holder's token wrote is not shown."""
    if not news:
        return
    at = session.execute(select(clock.in_database())).scalar_one()
    rows = [
        {
            "item_id": item_id,
            "token": token,
            "doing": reached.doing,
            "bytes_done": reached.bytes_done,
            "bytes_total": reached.bytes_total,
            "files_done": reached.files_done,
            "files_total": reached.files_total,
            "bytes_per_second": reached.bytes_per_second,
            "at": at,
        }
        for (item_id, token), reached in news.items()
    ]
    statement = insert_into(session, WorkProgress).values(rows)
    changed = {name: statement.excluded[name] for name in rows[0] if name != "item_id"}
    session.execute(statement.on_conflict_do_update(index_elements=["item_id"], set_=changed))


def of_items(session: Session, item_ids: Sequence[int]) -> dict[int, Reached]:
    """How far those of these items are that run now, as far as their holders have said."""
    statement = (
        select(WorkProgress)
        .join(WorkItem, WorkItem.id == WorkProgress.item_id)
        .where(
            WorkProgress.item_id.in_(item_ids),
            WorkItem.status == Status.RUNNING,
            WorkItem.lease_token == WorkProgress.token,
        )
    )
    return {
        row.item_id: Reached(
            row.doing,
            row.bytes_done,
            row.bytes_total,
            row.files_done,
            row.files_total,
            row.bytes_per_second,
            row.at,
        )
        for row in session.scalars(statement)
    }
