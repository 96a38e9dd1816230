"""Runs one stage on one claimed item, from manifest to committed outcome: what all stages have in common.

Promises: the outcome commits whole or not at all; a run that lost its lease commits nothing; every run ends in
one log line, one count and one event; whatever a stage raises becomes an outcome that an operator can read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType
from dpn.broker import Broker, BrokerUnavailable
from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import DATABASE_AWAY, Sessions, reading
from dpn.errors import Interrupted, LeaseLost, PermanentError, ServiceUnavailable, TransientError
from dpn.local_causes import LocalCause, local_cause
from dpn.telemetry.logs import Log
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work import lifecycle
from dpn.work.leases import Claim, held_by
from dpn.work.lifecycle import Change, Policy
from dpn.work.notes import printable
from dpn.work.outcomes import Fail, Outcome, Retry, Wait
from dpn.work.pipeline import Pipelines, StageSpec
from dpn.work.progress import StageProgress
from dpn.work.schedule.dispatch import publish_intents
from dpn.work.transitions import finish, save_progress
from models.manifests import ItemManifest, ManifestUnreadable, StageSummary
from models.work import WorkItem
from workers.stage import Job, Stage

ASK_AGAIN_SECONDS = 300.0
"""How often to look whether an operator has repaired what is blocked."""

EXPENSIVE_ASK_AGAIN_MAX_SECONDS = 6 * 3600.0
"""The longest pause before what costs much is tried again: our store with what it did not keep (a bag of terabytes
is not sent for nothing all day), or what each time killed its worker. It is as long as the item has waited."""

DIED = "the worker died or was killed"

ROOM_SECONDS = 60.0
"""How often to look whether there is room again: others' work makes some, without anybody's doing."""

DATABASE_RETRY_SECONDS = 1.0

MAX_ERROR_CHARACTERS = 2000

T = TypeVar("T")


@dataclass(frozen=True)
class StageRunner:
    """See the module's docstring. `ended` is told of items that have come to their end, after the commit.

    Once `stopping` is set, no outcome waits for a database that is away: its stage will run again.
    """

    stages: Mapping[StageSpec, Stage]
    sessions: Sessions
    broker: Broker
    pipelines: Pipelines
    policy: Policy
    clock: Clock
    jitter: Callable[[], float]
    worker_id: str
    log: Log
    metrics: WorkerMetrics
    ended: Callable[[Claim, ItemManifest, Change], None] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, claim: Claim, cancellation: Cancellation, progress: StageProgress | None = None) -> None:
        """Runs the claimed item's stage and commits what came of it. Raises nothing that an item could cause."""
        spec = self.pipelines.spec(claim.task, claim.stage)
        log = self.log.bind(item=claim.item_id, task=claim.task, stage=claim.stage, identifier=claim.identifier)
        started = self.clock.monotonic()
        job: Job[Any] | None = None
        try:
            job = self._job(claim, cancellation, progress or StageProgress(self.clock), log)
            outcome = self._outcome(job, spec)
        except ManifestUnreadable as error:
            outcome = Wait(ASK_AGAIN_SECONDS, str(error), needs_attention=True)
        except LeaseLost as error:
            self._lost(log, error)
            return
        except Interrupted as error:
            self._finish(
                claim, job, lifecycle.release(claim.position, f"put back: {error}"), log, "released", started
            )
            return
        change = self._decide(claim, outcome)
        try:
            self._finish(claim, job, change, log, type(outcome).__name__.lower(), started)
        except (SQLAlchemyError, ValueError, TypeError) as error:
            # What it wants to write is refused, and would be each time: the item must not hang on that.
            log.error("the outcome could not be written", error=repr(error), exc_info=error)
            reason = f"its outcome could not be written: {type(error).__name__}: {error}"
            saved = self._as_saved(claim, cancellation, log)
            self._finish(claim, saved, self._decide(claim, Retry(reason)), log, "retry", started)

    def _as_saved(self, claim: Claim, cancellation: Cancellation, log: Log) -> Job[Any] | None:
        """The run with what it last saved: with that, at least, can be written that it said how it went. None if
        that cannot be read either."""
        is_ours = held_by(claim.item_id, claim.token)
        try:
            with reading(self.sessions) as session:
                row = session.execute(select(WorkItem.manifest, WorkItem.staging_volume).where(is_ours)).one()
        except (NoResultFound, *DATABASE_AWAY):
            return None
        saved = replace(claim, manifest=row.manifest, staging_volume=row.staging_volume)
        try:
            return self._job(saved, cancellation, StageProgress(self.clock), log)
        except ManifestUnreadable:
            return None

    def _decide(self, claim: Claim, outcome: Outcome) -> Change:
        change = lifecycle.decide(
            claim.position,
            outcome,
            pipelines=self.pipelines,
            policy=self.policy,
            now=self.clock.now(),
            jitter=self.jitter(),
        )
        return replace(change, note=printable(change.note))

    def _job(self, claim: Claim, cancellation: Cancellation, progress: StageProgress, log: Log) -> Job[Any]:
        def pause() -> None:
            if cancellation.wait(DATABASE_RETRY_SECONDS):
                cancellation.check()

        def check_held() -> None:
            def read(session: Session) -> int | None:
                return session.scalar(select(WorkItem.id).where(held_by(claim.item_id, claim.token)))

            if self._while_away(lambda: reading(self.sessions), read, pause, log) is None:
                raise LeaseLost(f"item {claim.item_id}: another worker may hold it")

        def persist(job: Job[Any], note: str) -> None:
            at, tries = self.clock.now(), count()

            def save(session: Session) -> None:
                save_progress(
                    session,
                    claim,
                    manifest=job.manifest.model_dump(mode="json"),
                    staging_volume=job.staging_volume,
                    note=note,
                    events=job.events,
                    writes=job.writes,
                    worker=self.worker_id,
                    clock=self.clock,
                    at=at,
                    again=next(tries) > 0,
                )

            self._while_away(self.sessions.begin, save, pause, log)

        manifest = self.pipelines.read_manifest(claim.task, claim.manifest)
        return Job(
            claim,
            manifest,
            cancellation,
            progress,
            log,
            claim.staging_volume,
            persist,
            check_held,
            self.clock,
            note=claim.note,
        )

    def _outcome(self, job: Job[Any], spec: StageSpec) -> Outcome:
        if lifecycle.kills_its_workers(job.claim.position, self.policy):
            return Wait(self._longer_each_time(job.claim), _died(job.claim), needs_attention=True)
        summary = job.manifest.summaries.setdefault(spec.name, StageSummary())
        summary.attempts += 1
        summary.started_at = self.clock.now()
        job.log.info("stage started", attempt=job.claim.attempts, token=job.claim.token)
        try:
            return self.stages[spec].run(job)
        except Exception as error:  # noqa: BLE001  (the contract: what a stage does not name is transient)
            return self._outcome_of(error, job)

    def _outcome_of(self, error: Exception, job: Job[Any]) -> Outcome:
        match error:
            case LeaseLost():
                raise error
            case Interrupted() if job.cancellation.requested:
                raise error
            case ServiceUnavailable(retry_after_seconds=seconds):
                return Wait(self._patience(seconds), str(error))
        if cause := local_cause(error):
            return Wait(self._pause(cause, job.claim), cause.reason, needs_attention=cause.needs_operator)
        match error:
            case PermanentError():
                return Fail(str(error), given_up=True)
            case TransientError():
                return Retry(str(error))
        job.log.warning("stage raised", error=repr(error), exc_info=error)
        return Retry(f"{type(error).__name__}: {error}")

    def _pause(self, cause: LocalCause, claim: Claim) -> float:
        if cause.is_database:
            return self.policy.backoff_first_seconds
        if cause.is_store:
            return self._longer_each_time(claim)
        return ASK_AGAIN_SECONDS if cause.needs_operator else ROOM_SECONDS

    def _longer_each_time(self, claim: Claim) -> float:
        """As long as the item has waited already, within bounds."""
        since = claim.waiting_since
        waited = (self.clock.now() - since).total_seconds() if since else 0.0
        return min(max(waited, ASK_AGAIN_SECONDS), EXPENSIVE_ASK_AGAIN_MAX_SECONDS)

    def _patience(self, asked_seconds: float | None) -> float:
        """How long to wait for a service that asked for so many seconds: it may be hostile, or not know."""
        longest = self.policy.backoff_max_seconds
        if asked_seconds is None or not asked_seconds > 0:
            return self.policy.backoff_first_seconds
        return min(asked_seconds, longest)

    def _finish(
        self, claim: Claim, job: Job[Any] | None, change: Change, log: Log, outcome: str, started: float
    ) -> None:
        seconds = self.clock.monotonic() - started
        if job is not None:
            job.manifest.restarts += outcome == "startover"
            self._summarise(job, change, seconds, outcome)
        try:
            self._commit(claim, job, change, outcome, log)
        except LeaseLost as error:
            self._lost(log, error)
            return
        except Interrupted as error:
            log.error("the outcome is lost: the stage runs again once its lease has run out", error=str(error))
            return
        self.metrics.stage_ended(claim.task, claim.stage, outcome, seconds)
        level = log.warning if change.needs_attention or outcome in ("retry", "fail") else log.info
        level(
            "stage ended",
            outcome=outcome,
            seconds=round(seconds, 3),
            status=change.status.value,
            next_stage=change.stage,
            delay_seconds=round(change.delay_seconds, 1),
            needs_attention=change.needs_attention,
            note=change.note,
            manifest=None
            if job is None
            else job.manifest.model_dump(mode="json", exclude=self.pipelines.of(claim.task).unlogged),
        )
        if job is not None and change.status.is_final:
            self._tell_ended(claim, job.manifest, change, log)
        self._publish(claim.item_id, log)

    def _logged(self, job: Job[Any]) -> dict[str, Any]:
        unlogged: Any = self.pipelines.of(job.claim.task).unlogged
        logged: dict[str, Any] = job.manifest.model_dump(mode="json", exclude=unlogged)
        return logged

    def _summarise(self, job: Job[Any], change: Change, seconds: float, outcome: str) -> None:
        summary = job.manifest.summaries.setdefault(job.claim.stage, StageSummary())
        summary.seconds, summary.token = round(seconds, 3), job.claim.token
        if outcome == "done":
            summary.errors = []
            summary.finished_at = self.clock.now()
        elif outcome != "released":
            summary.add_error(change.note[:MAX_ERROR_CHARACTERS])

    def _commit(self, claim: Claim, job: Job[Any] | None, change: Change, outcome: str, log: Log) -> None:
        """Commits, trying again while the database is away. A commit whose answer was lost shows as a lease that
        is no longer ours: then the change has been made, or another worker goes on. Raises LeaseLost, and
        Interrupted if the worker stops meanwhile."""
        detail = {
            "stage": claim.stage,
            "next_stage": change.stage,
            "status": change.status.value,
            "note": change.note,
        }
        events = list(job.events) if job else []
        if outcome not in ("wait", "released"):  # an item may wait for weeks, asking every minute: the log has it
            events.append(Event(EventType.STAGE_ENDED, claim.identifier, outcome, detail, claim.item_id))
        manifest = None if job is None else job.manifest.model_dump(mode="json")

        def write(session: Session) -> None:
            finish(
                session,
                claim,
                change,
                manifest=manifest,
                staging_volume=job.staging_volume if job else claim.staging_volume,
                events=events,
                writes=job.writes if job else (),
                pipelines=self.pipelines,
                worker=self.worker_id,
                clock=self.clock,
            )

        def pause() -> None:
            if self.stopping.wait(DATABASE_RETRY_SECONDS):
                raise Interrupted("the worker stops while the database is away")

        self._while_away(self.sessions.begin, write, pause, log)

    def _while_away(
        self,
        opened: Callable[[], AbstractContextManager[Session]],
        act: Callable[[Session], T],
        pause: Callable[[], None],
        log: Log,
    ) -> T:
        """Acts, again and again while the database is away; `pause` waits, or raises if waiting is of no use."""
        tell = log.error
        while True:
            try:
                with opened() as session:
                    return act(session)
            except DATABASE_AWAY as error:
                tell("the database is away: trying again", error=str(error))
                tell = log.debug
                pause()

    def _tell_ended(self, claim: Claim, manifest: ItemManifest, change: Change, log: Log) -> None:
        if self.ended is None:
            return
        try:
            self.ended(claim, manifest, change)
        except Exception as error:  # the end is committed: what follows must not undo it
            log.error("what follows an item's end failed", error=repr(error), exc_info=error)

    def _publish(self, item_id: int, log: Log) -> None:
        try:
            publish_intents(self.sessions, self.broker, item_id=item_id)
        except (BrokerUnavailable, SQLAlchemyError) as error:
            log.warning("not announced yet: the intent stays, and the sweep finds the item", error=str(error))

    def _lost(self, log: Log, error: LeaseLost) -> None:
        self.metrics.lease_lost()
        log.warning("lease lost: nothing was changed", error=str(error))


def _died(claim: Claim) -> str:
    """What an operator reads of an item whose runs end with their worker: that is no fault of who wants it."""
    if claim.note.startswith(DIED):
        return claim.note
    return (
        f"{DIED} {claim.position.deaths} times in a row: see in the journals of their machines what killed them "
        f"(memory: MemoryMax, the kernel); it is tried again by itself, ever more seldom, and at once by "
        f"`dpn item retry`. The last note was: {claim.note}"
    )


def worker_name(host: str, stages: str) -> str:
    """Names a worker process so that an operator finds it: host, what it runs, pid."""
    return f"{host}/{stages}/{os.getpid()}"
