"""`dpn worker STAGE`: the long-running worker of one stage, or of all in one process."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.errors import Misconfigured, StoreUnavailable
from dpn.node import Node, open_broker
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work.breakers import BreakerPolicy, Breakers
from dpn.work.lifecycle import Policy
from dpn.work.pipeline import StageSpec
from dpn.work.presence import Presence
from dpn.work.settings import WorkSettings
from models.work import Task
from workers.pipelines import (
    ASK,
    CHECK,
    COPY,
    DELIVER,
    FETCH,
    INGEST_RECORD,
    INGEST_STORE,
    JUDGE,
    PACKAGE,
    PIPELINES,
    RESTORE_CHECK,
    RESTORE_INIT,
    RESTORE_READY,
    RESTORE_RETRIEVE,
    RETRIEVE,
    SETTLE,
    STORE,
    TELL,
    VALIDATE,
)

if TYPE_CHECKING:
    from dpn.fixity.copies import Copies
    from dpn.staging.staging import Staging
    from dpn.storage.store import Store
    from workers.own_copy import OurCopies
    from workers.peers import OwnerClient, Owners
    from workers.stage import Stage

ALL = "all"
READING = {RESTORE_INIT, RETRIEVE, CHECK, RESTORE_READY, RESTORE_RETRIEVE, RESTORE_CHECK}
NEED_STORE = {STORE, INGEST_STORE, *READING, ASK, FETCH, JUDGE, SETTLE}
WORKERS = tuple(dict.fromkeys(spec.worker for spec in PIPELINES.all_specs()))
"""What there is to start: one worker may run stages of several pipelines."""

METRICS_HOST = "127.0.0.1"


def worker(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(WORKERS)}, {ALL}.")],
    config: ConfigOption = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Items at once; default work.concurrency.")
    ] = None,
) -> None:
    """Run the worker of a stage until told to stop (SIGTERM: finish what runs, take nothing new)."""
    specs = _specs(stage)
    with open_node(context, config, f"dpn-worker-{stage}") as node:
        asyncio.run(_work(node, stage, specs, concurrency or node.settings.work.concurrency))


def _specs(stage: str) -> list[StageSpec]:
    """The stages of a worker: its own, and telling peers what we owe them, which every worker does."""
    specs = PIPELINES.all_specs()
    if stage == ALL:
        return specs
    chosen = [spec for spec in specs if stage.replace("_", "-") == spec.worker]
    if not chosen:
        names = ", ".join([*WORKERS, ALL])
        raise Misconfigured(f"no worker for stage {stage!r}: choose one of {names}")
    return chosen if TELL in chosen else [*chosen, TELL]


async def _work(node: Node, name: str, specs: list[StageSpec], concurrency: int) -> None:
    # Imported here: what one stage needs (boto3, pynsq) is not loaded for a process that does not run it.
    from dpn.staging.staging import Staging
    from workers.runner.database_uptime import Witness
    from workers.runner.housekeeping import Housekeeping
    from workers.runner.stage_runner import StageRunner, worker_name
    from workers.runner.staged_bytes import StagedBytes
    from workers.runner.worker import Worker

    settings = node.settings
    worker_id = worker_name(socket.gethostname(), name)
    jitter = random.SystemRandom().random
    metrics = WorkerMetrics()
    staging = Staging(node.sessions, settings.staging, clock=node.clock)
    staging.mount()
    breakers = Breakers(node.sessions, breaker_policy(settings.work), clock=node.clock, jitter=jitter)
    store = await asyncio.to_thread(_open_store, node) if NEED_STORE.intersection(specs) else None
    broker = open_broker(node)
    runner = StageRunner(
        stages=_stages(node, specs, staging, store, breakers),
        sessions=node.sessions,
        broker=broker,
        pipelines=PIPELINES,
        policy=policy(settings.work),
        clock=node.clock,
        jitter=jitter,
        worker_id=worker_id,
        log=node.log,
        metrics=metrics,
        ended=StagedBytes(staging, node.log).leave,
    )
    witness = Witness(node.clock, longest_gap_seconds=settings.staging.abandon_after_seconds)
    chores = Housekeeping(
        settings, node.sessions, broker, staging, store, PIPELINES, worker_id, witness, node.clock, node.log
    ).chores()
    presence = Presence(
        worker_id,
        socket.gethostname(),
        int(worker_id.rpartition("/")[2]),
        tuple(dict.fromkeys(spec.worker for spec in specs)),
        tuple(settings.staging.volumes),
    )
    if settings.log.metrics_port is not None:
        port = metrics.serve(METRICS_HOST, settings.log.metrics_port)
        node.log.info("metrics", address=f"http://{METRICS_HOST}:{port}/metrics")
    await Worker(
        runner=runner,
        presence=presence,
        sessions=node.sessions,
        broker=broker,
        settings=settings.work,
        concurrency=concurrency,
        chores=chores,
        clock=node.clock,
        log=node.log,
        metrics=metrics,
    ).run()


def policy(work: WorkSettings) -> Policy:
    """How often and how long items are tried."""
    return Policy(
        attempts=work.attempts,
        backoff_first_seconds=work.backoff_first_seconds,
        backoff_max_seconds=work.backoff_max_seconds,
        attention_after_seconds=work.attention_after_seconds,
    )


def breaker_policy(work: WorkSettings) -> BreakerPolicy:
    """When an outside service is left alone."""
    return BreakerPolicy(
        failures=work.breaker_failures,
        first_seconds=work.breaker_first_seconds,
        max_seconds=work.breaker_max_seconds,
    )


def _open_store(node: Node) -> Store:
    """The long-term store, probed: wrong settings stop the start, a store that is down does not."""
    from dpn.storage.stores import open_store

    store = open_store(node.settings.store, clock=node.clock)
    try:
        node.log.info("store probed", store=store.name, capabilities=str(store.probe()))
    except StoreUnavailable as error:
        node.log.warning("the store cannot be probed now: it will be before it is used", error=str(error))
    return store


def _stages(
    node: Node, specs: Iterable[StageSpec], staging: Staging, store: Store | None, breakers: Breakers
) -> Mapping[StageSpec, Stage]:
    from workers.peers import Owners

    owners = Owners(_clients(node), breakers)
    return {spec: _stage(spec, node, owners, staging, store, breakers) for spec in specs}


def _stage(
    spec: StageSpec, node: Node, owners: Owners, staging: Staging, store: Store | None, breakers: Breakers
) -> Stage:
    settings = node.settings
    if spec == COPY:
        from workers.replication.copy import CopyStage

        return CopyStage(
            node=node.namespace,
            owners=owners,
            peers=settings.peers,
            staging=staging,
            settings=settings.transfer,
            breakers=breakers,
            clock=node.clock,
            verdict_poll_seconds=settings.work.verdict_poll_seconds,
        )
    if spec == VALIDATE:
        from dpn.bags.validation.profiles import load_profile
        from workers.replication.validate import ValidateStage

        return ValidateStage(staging, load_profile(settings.validation.profile), settings.validation)
    if spec == STORE and store is not None:
        from workers.replication.store import StoreStage

        poll_seconds = settings.work.verdict_poll_seconds
        return StoreStage(owners, staging, store, breakers, node.clock, poll_seconds, _copies(node))
    if spec == PACKAGE:
        from workers.ingest.package import PackageStage

        outbound = (one.folder for one in settings.ingest.outbound.values())
        our_folders = (*settings.staging.volumes.values(), *outbound)
        return PackageStage(node.namespace, staging, settings.ingest, our_folders)
    if spec == INGEST_STORE and store is not None:
        from workers.ingest.store import IngestStoreStage
        from workers.storing import Storing

        storing = Storing(staging, store, breakers, settings.work.verdict_poll_seconds)
        return IngestStoreStage(node.namespace, storing, _copies(node))
    if spec == INGEST_RECORD:
        from workers.ingest.record import IngestRecordStage

        return IngestRecordStage(
            node.namespace,
            frozenset(settings.peers),
            node.sessions,
            staging,
            settings.ingest,
            node.clock,
            settings.work.verdict_poll_seconds,
        )
    if spec in READING and store is not None:
        from workers.own_copy import OurCopies

        return _reading_stage(spec, node, owners, OurCopies(store, settings.store, breakers), staging)
    if spec.task is Task.RECOVERY and store is not None:
        from dpn.cli.recovery_stages import recovery_stage

        return recovery_stage(spec, node, staging, store, breakers)
    if spec == DELIVER:
        return _deliver(node, owners, staging)
    from workers.notice.tell import TellStage

    return TellStage(owners)


def _reading_stage(spec: StageSpec, node: Node, owners: Owners, copies: OurCopies, staging: Staging) -> Stage:
    """A stage that reads our own copies: to check them, or to hand them to another node."""
    from workers.restore.accept import AcceptingStage, JudgingStage

    settings = node.settings
    if spec in (RESTORE_INIT, RESTORE_READY):
        from dpn.fixity.thaw_budget import ColdBudget
        from workers.fixity.thaw import RestoreInitStage

        budget = ColdBudget(node.sessions, settings.fixity.max_cold_bytes_per_month, node.clock)
        tier = (settings.fixity if spec == RESTORE_INIT else settings.restore).retrieval_tier
        ready = RestoreInitStage(copies, budget, settings.fixity, tier, node.clock)
        if spec == RESTORE_INIT:
            return ready
        return AcceptingStage(owners, ready, settings.ingest.outbound, node.sessions)
    if spec in (RETRIEVE, RESTORE_RETRIEVE):
        from workers.fixity.retrieve import RetrieveStage

        return RetrieveStage(copies, staging, settings.fixity, node.clock)
    from dpn.bags.validation.profiles import load_profile
    from dpn.fixity.repairs import Repairs
    from workers.fixity.check import CheckStage

    check = CheckStage(
        node.namespace,
        node.sessions,
        copies,
        staging,
        load_profile(settings.validation.profile),
        settings.validation,
        settings.fixity,
        node.clock,
        Repairs(PIPELINES, node.clock) if settings.recovery.repair else None,
    )
    return check if spec == CHECK else JudgingStage(check, node.sessions)


def _deliver(node: Node, owners: Owners, staging: Staging) -> Stage:
    from dpn.outbound.folder import Outbound
    from dpn.outbound.withdrawal import OutboundCleanup
    from workers.restore.deliver import DeliverStage

    settings = node.settings
    outbounds = [Outbound(one) for one in settings.ingest.outbound.values()]
    return DeliverStage(
        owners,
        node.sessions,
        staging,
        settings.ingest.outbound,
        OutboundCleanup(node.namespace, outbounds, node.sessions, node.clock, node.log),
        settings.restore,
        node.clock,
        settings.work.verdict_poll_seconds,
    )


def _copies(node: Node) -> Copies:
    from dpn.fixity.copies import Copies

    return Copies(node.sessions, node.settings.fixity.every_days)


def _clients(node: Node) -> Mapping[str, OwnerClient]:
    from dpn.registry.client import RegistryClient

    return {name: RegistryClient(name, peer) for name, peer in node.settings.peers.items()}
