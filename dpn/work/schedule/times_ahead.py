"""Takes back times that lie further ahead than they can: a clock was ahead for a moment, or has been put back.

What was written then would be believed until that time has come: the lease of a worker that is dead, an item that
waits, a volume that nobody mounts. All of these are set from the database's clock, never far ahead of it.
"""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from models.work import StagingVolume, Status, WorkerHeartbeat, WorkItem

TOLERANCE_SECONDS = 60.0
"""So far may what was written lie ahead: clocks are put right a little all the time."""

LEASES = 10
"""As many leases ahead may a lease end: a worker that is not yet restarted may have longer ones than ours."""


def take_back(session: Session, *, lease_seconds: float, clock: Clock) -> list[int]:
    """Makes what waits because of such a time due now, and has such a lease end one lease from now; a holder that
    is alive extends it before. Returns the items that it changed."""
    now, ahead = clock.in_database(), clock.in_database(TOLERANCE_SECONDS)
    for seen in (WorkerHeartbeat, StagingVolume):
        session.execute(update(seen).where(seen.seen_at > ahead).values(seen_at=now))
    held = update(WorkItem).where(
        WorkItem.status == Status.RUNNING, WorkItem.lease_expires_at > clock.in_database(LEASES * lease_seconds)
    )
    waits = update(WorkItem).where(WorkItem.status == Status.PENDING, WorkItem.updated_at > ahead)
    changed: list[int] = []
    for statement in (
        held.values(lease_expires_at=clock.in_database(lease_seconds)),
        waits.values(run_after=now, updated_at=now),
    ):
        changed += session.scalars(statement.returning(WorkItem.id).execution_options(synchronize_session=False))
    return sorted(changed)
