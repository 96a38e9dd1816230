"""Runs one stage on one claimed item, from manifest to committed outcome: what all stages have in common.

Promises: the outcome commits whole or not at all; a run that lost its lease commits nothing; every run ends in
one log line, one count and one event; whatever a stage raises becomes an outcome that an operator can read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from dpn.audit.trail import Event, EventType
from dpn.broker import Broker, BrokerUnavailable
from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.errors import Interrupted, LeaseLost, Misconfigured, NoSpace, PermanentError, ServiceUnavailable
from dpn.telemetry.logs import Log
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work import lifecycle
from dpn.work.dispatch import publish_intents
from dpn.work.leases import Claim, held_by
from dpn.work.lifecycle import Change, Policy
from dpn.work.outcomes import CancelReason, Fail, Outcome, Retry, TransferCancellation, Wait
from dpn.work.pipeline import Pipelines, StageSpec
from dpn.work.transitions import finish, save_progress
from models.manifests import AnyManifest, ManifestTooNew, StageSummary, read_manifest
from models.work import Task, WorkItem
from workers.stage import Job, Stage

ASK_AGAIN_SECONDS = 300.0
"""How often to look whether an operator has mended what is blocked."""

DATABASE_RETRY_SECONDS = 1.0

MAX_NOTE_CHARACTERS = 2000


@dataclass(frozen=True)
class StageRunner:
    """See the module's docstring. `ended` is told of items that have come to their end, after the commit."""

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
    ended: Callable[[Claim, AnyManifest, Change], None]

    def run(self, claim: Claim, cancellation: Cancellation) -> None:
        """Runs the claimed item's stage and commits what came of it. Raises nothing that an item could cause."""
        spec = self.pipelines.spec(claim.task, claim.stage)
        log = self.log.bind(item=claim.item_id, task=claim.task, stage=claim.stage, identifier=claim.identifier)
        started = self.clock.monotonic()
        job: Job[Any] | None = None
        try:
            job = self._job(claim, cancellation, log)
            outcome = self._outcome(job, spec)
        except (ManifestTooNew, ValidationError, KeyError) as error:
            outcome = Wait(ASK_AGAIN_SECONDS, f"the manifest cannot be read: {error}", needs_attention=True)
        except LeaseLost as error:
            self._lost(log, error)
            return
        except Interrupted as error:
            self._finish(
                claim, job, lifecycle.release(claim.position, f"put back: {error}"), log, "released", started
            )
            return
        change = lifecycle.decide(
            claim.position,
            outcome,
            pipelines=self.pipelines,
            policy=self.policy,
            now=self.clock.now(),
            jitter=self.jitter(),
        )
        self._finish(claim, job, change, log, type(outcome).__name__.lower(), started)

    def _job(self, claim: Claim, cancellation: Cancellation, log: Log) -> Job[Any]:
        def check_held() -> None:
            with reading(self.sessions) as session:
                held = session.scalar(select(WorkItem.id).where(held_by(claim.item_id, claim.token)))
            if held is None:
                raise LeaseLost(f"item {claim.item_id}: another worker may hold it")

        def persist(job: Job[Any], note: str) -> None:
            with self.sessions.begin() as session:
                save_progress(
                    session,
                    claim,
                    manifest=job.manifest.model_dump(mode="json"),
                    staging_volume=job.staging_volume,
                    note=note,
                    events=job.events,
                    worker=self.worker_id,
                    clock=self.clock,
                )

        manifest = read_manifest(claim.task, claim.manifest)
        return Job(claim, manifest, cancellation, log, claim.staging_volume, persist, check_held, note=claim.note)

    def _outcome(self, job: Job[Any], spec: StageSpec) -> Outcome:
        if lifecycle.attempts_are_used_up(job.claim.position, self.policy):
            return give_up(
                job.claim, "the worker died or was killed each time, the last note was: " + job.claim.note
            )
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
            case Interrupted():
                raise error
            case ServiceUnavailable(retry_after_seconds=seconds):
                return Wait(seconds or self.policy.backoff_first_seconds, str(error))
            case Misconfigured():
                return Wait(ASK_AGAIN_SECONDS, str(error), needs_attention=True)
            case NoSpace():
                return Wait(ASK_AGAIN_SECONDS, str(error))
            case PermanentError():
                return give_up(job.claim, str(error))
            case SQLAlchemyError():
                # Our own database is no fault of the item.
                return Wait(self.policy.backoff_first_seconds, f"the database failed: {error}")
        job.log.warning("stage raised", error=repr(error), exc_info=error)
        return Retry(f"{type(error).__name__}: {error}")

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
        self.metrics.stages_ended.labels(claim.task, claim.stage, outcome).inc()
        self.metrics.stage_seconds.labels(claim.task, claim.stage).observe(seconds)
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
            else job.manifest.model_dump(mode="json", exclude={"receipt": {"part_sha256"}}),
        )
        if job is not None and change.status.is_final:
            self.ended(claim, job.manifest, change)
        self._publish(claim.item_id, log)

    def _summarise(self, job: Job[Any], change: Change, seconds: float, outcome: str) -> None:
        summary = job.manifest.summaries.setdefault(job.claim.stage, StageSummary())
        summary.seconds = round(seconds, 3)
        if outcome == "done":
            summary.errors = []
            summary.finished_at = self.clock.now()
        elif outcome != "released":
            summary.add_error(change.note[:MAX_NOTE_CHARACTERS])

    def _commit(self, claim: Claim, job: Job[Any] | None, change: Change, outcome: str, log: Log) -> None:
        """Commits, trying again while the database is away. A commit whose answer was lost shows as a lease that
        is no longer ours: then the change has been made, or another worker goes on. Raises LeaseLost."""
        detail = {
            "stage": claim.stage,
            "next_stage": change.stage,
            "status": change.status.value,
            "note": change.note,
        }
        events = list(job.events) if job else []
        if outcome not in ("wait", "released"):  # an item may wait for weeks, asking every minute: the log has it
            events.append(Event(EventType.STAGE_ENDED, claim.identifier, outcome, detail, claim.item_id))
        manifest = claim.manifest if job is None else job.manifest.model_dump(mode="json")
        pause = threading.Event()
        while True:
            try:
                with self.sessions.begin() as session:
                    finish(
                        session,
                        claim,
                        change,
                        manifest=manifest,
                        staging_volume=job.staging_volume if job else claim.staging_volume,
                        events=events,
                        pipelines=self.pipelines,
                        worker=self.worker_id,
                        clock=self.clock,
                    )
                return
            except (OperationalError, InterfaceError) as error:
                log.error("the outcome could not be written, trying again", error=str(error))
                pause.wait(DATABASE_RETRY_SECONDS)

    def _publish(self, item_id: int, log: Log) -> None:
        try:
            publish_intents(self.sessions, self.broker, item_id=item_id)
        except (BrokerUnavailable, SQLAlchemyError) as error:
            log.warning("not announced yet: the intent stays, and the sweep finds the item", error=str(error))

    def _lost(self, log: Log, error: LeaseLost) -> None:
        self.metrics.leases_lost.inc()
        log.warning("lease lost: nothing was changed", error=str(error))


def give_up(claim: Claim, reason: str) -> Fail:
    """The item fails for good, and its owner is told, unless the item itself is a telling."""
    tell = None if claim.task == Task.NOTICE else TransferCancellation(CancelReason.OTHER, reason)
    return Fail(reason, tell)


def worker_name(host: str, stages: str) -> str:
    """Names a worker process so that an operator finds it: host, what it runs, pid."""
    return f"{host}/{stages}/{os.getpid()}"
