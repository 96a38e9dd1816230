"""What every worker, and `dpn_cleanup`, does beside the stages: nothing stays lost, nothing stays lying about.

Each chore may be done by several processes at once, and fails without harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError

from dpn.broker import Broker, BrokerUnavailable
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.settings import Settings
from dpn.staging.staging import Staging
from dpn.telemetry.logs import Log
from dpn.work.leases import at_stage
from dpn.work.pipeline import Pipelines
from dpn.work.schedule.dispatch import publish_intents
from dpn.work.schedule.sweep import abandon_lost_volumes, forget_dead_letters
from dpn.work.schedule.times_ahead import take_back
from models.manifests import upload_owned
from models.work import Status, WorkItem
from workers.runner.chores import Chore
from workers.runner.database_uptime import Witness

if TYPE_CHECKING:
    from dpn.storage.store import Store

PAGE = 200


@dataclass(frozen=True)
class Housekeeping:
    """See the module's docstring. `staging` and `store` are None for a process that uses none."""

    settings: Settings
    sessions: Sessions
    broker: Broker
    staging: Staging | None
    store: Store | None
    pipelines: Pipelines
    worker_id: str
    witness: Witness
    clock: Clock
    log: Log

    def chores(self) -> list[Chore]:
        """All of them, with how often each is worth doing."""
        sweep_seconds = self.settings.work.sweep_seconds
        chores = [
            Chore("publish what could not be announced", sweep_seconds, self.publish_leftovers),
            Chore("give up staging volumes that are gone", self._watch_seconds, self.abandon_volumes),
            Chore("take back times that lie ahead", 300.0, self.take_back_times),
            Chore("bound the dead letters", 3600.0, self.forget_dead_letters),
        ]
        if self.staging is not None:
            chores += [
                Chore("release what no item needs", 300.0, partial(self.sweep_staging, self.staging)),
                Chore("bound the quarantine", 3600.0, partial(self.prune_quarantine, self.staging)),
            ]
        if self.store is not None and self.settings.store is not None:
            days = self.settings.store.abandoned_upload_days
            abort = partial(self.abort_uploads, self.store, timedelta(days=days))
            chores.append(Chore("abort uploads that no item owns", 3600.0, abort))
        return chores

    def publish_leftovers(self) -> None:
        try:
            publish_intents(self.sessions, self.broker)
        except BrokerUnavailable as error:
            self.log.warning("messages wait for the broker", error=str(error))

    @property
    def _watch_seconds(self) -> float:
        """How often to look which volumes are mounted: several times in what makes one count as gone."""
        return min(60.0, self.settings.staging.abandon_after_seconds / 4)

    def abandon_volumes(self) -> None:
        """Gives up volumes that nobody has mounted for long, if this process has watched all that while."""
        try:
            with reading(self.sessions) as session:
                session.execute(select(1))
        except SQLAlchemyError:
            self.witness.was_blind()
            raise
        if self.witness.saw() >= self.settings.staging.abandon_after_seconds:
            self._abandon_volumes()

    def _abandon_volumes(self) -> None:
        last_id: int | None = 0
        while last_id is not None:
            with self.sessions.begin() as session:
                abandoned = abandon_lost_volumes(
                    session,
                    after_id=last_id,
                    abandon_after_seconds=self.settings.staging.abandon_after_seconds,
                    pipelines=self.pipelines,
                    worker=self.worker_id,
                    clock=self.clock,
                )
            last_id = abandoned.last_id
            if abandoned.items:
                self.log.warning("freed from a volume that no live worker mounts", items=abandoned.items)
            if abandoned.unreadable:
                self.log.error("not staged anew: unreadable manifests", items=abandoned.unreadable)

    def take_back_times(self) -> None:
        with self.sessions.begin() as session:
            changed = take_back(session, lease_seconds=self.settings.work.lease_seconds, clock=self.clock)
        if changed:
            self.log.warning("times that lay ahead are taken back: was a clock wrong?", items=changed)

    def sweep_staging(self, staging: Staging) -> None:
        released = staging.release_orphans()
        removed = staging.sweep_orphans(self.pipelines.read_manifest)
        if released or removed:
            self.log.info("staging swept", reservations=released, items=removed)

    def prune_quarantine(self, staging: Staging) -> None:
        if removed := staging.prune_quarantine():
            self.log.warning("quarantine pruned", removed=[str(pruned) for pruned in removed])

    def forget_dead_letters(self) -> None:
        with self.sessions.begin() as session:
            forgotten = forget_dead_letters(session)
        if forgotten:
            self.log.warning("old dead letters forgotten", count=forgotten)

    def abort_uploads(self, store: Store, older_than: timedelta) -> None:
        aborted = store.abort_abandoned_uploads(older_than=older_than, keep=set(self._owned_uploads()))
        if aborted:
            self.log.warning("uploads aborted that no item owns", count=aborted)

    def _owned_uploads(self) -> Iterator[str]:
        """The upload ids of all items that are still being worked on, a page at a time."""
        may_own = or_(*(at_stage(spec) for spec in self.pipelines.all_specs() if spec.uploads))
        after = 0
        while True:
            statement = (
                select(WorkItem.id, WorkItem.manifest)
                .where(WorkItem.status.in_((Status.PENDING, Status.RUNNING)), may_own, WorkItem.id > after)
                .order_by(WorkItem.id)
                .limit(PAGE)
            )
            with reading(self.sessions) as session:
                page = session.execute(statement).all()
            for _, manifest in page:
                if (upload := upload_owned(manifest)) is not None:
                    yield upload
            if len(page) < PAGE:
                return
            after = page[-1][0]
