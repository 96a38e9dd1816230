"""Which workers live, and which staging volumes they mount: known from rows that each worker keeps fresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import insert_missing
from models.work import StagingVolume, WorkerHeartbeat

FORGET_AFTER_SECONDS = 7 * 86_400.0
"""How long the row of a worker that is gone is kept, so that an operator can see that there was one."""


@dataclass(frozen=True)
class Presence:
    """What a worker process says of itself."""

    worker_id: str
    host: str
    pid: int
    stages: tuple[str, ...]
    volumes: tuple[str, ...]


def register(session: Session, presence: Presence, *, clock: Clock) -> None:
    """Makes the worker and its volumes known."""
    now = clock.in_database()
    volumes = [{"name": name, "reservations_made": 0, "seen_at": now} for name in presence.volumes]
    insert_missing(session, StagingVolume, volumes)
    row = {
        "host": presence.host,
        "pid": presence.pid,
        "stages": list(presence.stages),
        "volumes": list(presence.volumes),
        "state": "running",
        "running": 0,
        "started_at": now,
        "seen_at": now,
    }
    if not insert_missing(session, WorkerHeartbeat, [{"worker_id": presence.worker_id, **row}]):
        # An earlier worker had the same name: in a container every worker may be pid 1 of the same host.
        known = update(WorkerHeartbeat).where(WorkerHeartbeat.worker_id == presence.worker_id)
        session.execute(known.values(**row))
    beat(session, presence, state="running", running=0, clock=clock)


def beat(session: Session, presence: Presence, *, state: str, running: int, clock: Clock) -> None:
    """Says that the worker is alive and still mounts its volumes."""
    session.execute(
        update(WorkerHeartbeat)
        .where(WorkerHeartbeat.worker_id == presence.worker_id)
        .values(seen_at=clock.in_database(), state=state, running=running)
    )
    session.execute(
        update(StagingVolume).where(StagingVolume.name.in_(presence.volumes)).values(seen_at=clock.in_database())
    )


def leave(session: Session, presence: Presence, *, clock: Clock) -> None:
    """The worker stopped in order; forgets workers that have been gone for a week."""
    beat(session, presence, state="stopped", running=0, clock=clock)
    session.execute(
        delete(WorkerHeartbeat).where(WorkerHeartbeat.seen_at < clock.in_database(-FORGET_AFTER_SECONDS))
    )


def live_workers(session: Session, *, within_seconds: float, clock: Clock) -> Sequence[WorkerHeartbeat]:
    """Workers that said so within the last `within_seconds` and have not stopped."""
    return session.scalars(
        select(WorkerHeartbeat)
        .where(WorkerHeartbeat.seen_at >= clock.in_database(-within_seconds), WorkerHeartbeat.state != "stopped")
        .order_by(WorkerHeartbeat.worker_id)
    ).all()
