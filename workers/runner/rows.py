"""What a worker process reads and writes of its own accord: claims, heartbeats, dead letters."""

from __future__ import annotations

from dataclasses import dataclass

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.work.leases import Claim, claim, due_items
from dpn.work.pipeline import StageSpec
from dpn.work.presence import Presence, beat, leave, register
from models.work import DeadLetter, WorkItem

MAX_DEAD_LETTER_CHARACTERS = 1024
MAX_REASON_CHARACTERS = 255


@dataclass(frozen=True)
class WorkerRows:
    """See the module's docstring. Everything raises SQLAlchemyError while the database is away."""

    presence: Presence
    stages: tuple[StageSpec, ...]
    sessions: Sessions
    lease_seconds: float
    clock: Clock

    def claim(self, item_id: int) -> Claim | None:
        """Takes the item, if it is ours to take."""
        with self.sessions.begin() as session:
            return claim(
                session,
                item_id,
                worker=self.presence.worker_id,
                stages=self.stages,
                volumes=self.presence.volumes,
                lease_seconds=self.lease_seconds,
                clock=self.clock,
            )

    def due(self, limit: int) -> list[int]:
        """Items that could be claimed now."""
        with reading(self.sessions) as session:
            return due_items(
                session, stages=self.stages, volumes=self.presence.volumes, limit=limit, clock=self.clock
            )

    def is_known(self, item_id: int) -> bool:
        with reading(self.sessions) as session:
            return session.query(WorkItem.id).filter_by(id=item_id).one_or_none() is not None

    def bury(self, topic: str, body: bytes, reason: str) -> None:
        """Keeps a message that names no item of ours."""
        text = body.decode("ascii", "backslashreplace").replace("\0", "\\0")[:MAX_DEAD_LETTER_CHARACTERS]
        with self.sessions.begin() as session:
            session.add(
                DeadLetter(
                    topic=topic, body=text, reason=reason[:MAX_REASON_CHARACTERS], received_at=self.clock.now()
                )
            )

    def register(self) -> None:
        with self.sessions.begin() as session:
            register(session, self.presence, clock=self.clock)

    def beat(self, state: str, running: int) -> None:
        with self.sessions.begin() as session:
            beat(session, self.presence, state=state, running=running, clock=self.clock)

    def leave(self) -> None:
        with self.sessions.begin() as session:
            leave(session, self.presence, clock=self.clock)
