"""Withdraws what a recovery that has failed or was cancelled has left open: its requests to other nodes.

Else those would bring the bag out of its store, and hold it ready, for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.recovery.errors import RequestRefused
from dpn.recovery.requests import give_up, request_of
from dpn.work.notes import printable
from models.manifests import ManifestUnreadable, RecoveryManifest
from models.work import Status, Task, WorkItem

LOOKED_AT_DAYS = 30.0
"""How long after the end of a recovery its requests are looked for: as long as a node holds an offer ready."""

BATCH = 100


def withdraw_leftover_requests(sessions: Sessions, *, node: str, clock: Clock) -> int:
    """Cancels these requests in our registry; returns how many. `node` is ours. Safe to repeat, at any time."""
    withdrawn = 0
    with reading(sessions) as session:
        left = list(_left_over(session, clock))
    for restore_id, why in left:
        with suppress(RequestRefused), sessions.begin() as session:  # it was finished just now: nobody waits
            record = request_of(session, restore_id)
            if record is not None and not record.is_final:
                give_up(session, restore_id, us=node, reason_detail=why, now=clock.now())
                withdrawn += 1
    return withdrawn


def _left_over(session: Session, clock: Clock) -> Iterator[tuple[str, str]]:
    """The ids of the requests, and why nobody wants them any more."""
    after, since = 0, clock.in_database(-timedelta(days=LOOKED_AT_DAYS).total_seconds())
    while True:
        page = session.scalars(
            select(WorkItem)
            .where(
                WorkItem.task == Task.RECOVERY,
                WorkItem.status.in_((Status.FAILED, Status.CANCELLED)),
                WorkItem.completed_at >= since,
                WorkItem.id > after,
            )
            .order_by(WorkItem.id)
            .limit(BATCH)
        ).all()
        for item in page:
            try:
                manifest = RecoveryManifest.read(item.manifest)
            except ManifestUnreadable:
                continue  # it is flagged where it is worked on
            for asked in manifest.hopes:
                yield asked.restore_id, printable(f"no longer wanted: {item.note}")
        if len(page) < BATCH:
            return
        after = page[-1].id
