"""Puts a worker process together: from the services that its stages were built from, and these stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dpn.errors import DpnError
from dpn.node import OpenNode, open_broker
from dpn.staging.staging import Staging
from dpn.telemetry.logs import Log
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work.pipeline import StageSpec
from dpn.work.schedule.presence import Presence
from workers.runner.database_uptime import Witness
from workers.runner.housekeeping import Housekeeping
from workers.runner.services import Services, policy
from workers.runner.stage_runner import StageRunner, worker_name
from workers.runner.staged_bytes import StagedBytes
from workers.runner.worker import Worker
from workers.stage import Stage

if TYPE_CHECKING:
    from dpn.storage.store import Store

METRICS_HOST = "127.0.0.1"


def open_worker(
    services: Services,
    stages: Mapping[StageSpec, Stage],
    *,
    name: str,
    host: str,
    concurrency: int,
    jitter: Callable[[], float],
) -> Worker:
    """The worker `name` on `host`, ready to run. It mounts staging volumes only if a stage of its may lie on one,
    and looks after the uploads of the store only if a stage of its makes some."""
    node, settings = services.node, services.settings
    staging = services.staging if any(spec.may_lie_on_volume for spec in stages) else None
    store = services.store if any(spec.uploads for spec in stages) else None
    if store is not None:
        _probe(store, node.log)
    worker_id, broker, metrics = worker_name(host, name), open_broker(node), _metrics(node)
    runner = StageRunner(
        stages=stages,
        sessions=node.sessions,
        broker=broker,
        pipelines=services.pipelines,
        policy=policy(settings.work),
        clock=node.clock,
        jitter=jitter,
        worker_id=worker_id,
        log=node.log,
        metrics=metrics,
        ended=None if staging is None else StagedBytes(staging, node.log).leave,
    )
    return Worker(
        runner=runner,
        presence=Presence(
            worker_id,
            host,
            int(worker_id.rpartition("/")[2]),
            tuple(dict.fromkeys(spec.worker for spec in stages)),
            () if staging is None else staging.volumes,
        ),
        sessions=node.sessions,
        broker=broker,
        settings=settings.work.among(len(settings.peers)),
        concurrency=concurrency,
        chores=housekeeping(services, worker_id, staging, store).chores(),
        clock=node.clock,
        log=node.log,
        metrics=metrics,
    )


def _probe(store: Store, log: Log) -> None:
    """Tells at the start how the store is. One that cannot be used now is a cause outside: what needs it waits."""
    try:
        log.info("store probed", store=store.name, capabilities=str(store.probe()))
    except DpnError as error:
        log.error("the store cannot be used now", store=store.name, error=str(error))


def _metrics(node: OpenNode) -> WorkerMetrics:
    """What counts, and is asked at the address in the log, where the settings give a port."""
    if node.settings.log.metrics_port is None:
        return WorkerMetrics()
    from dpn.telemetry.prometheus import PrometheusMetrics

    metrics = PrometheusMetrics()
    port = metrics.serve(METRICS_HOST, node.settings.log.metrics_port)
    node.log.info("metrics", address=f"http://{METRICS_HOST}:{port}/metrics")
    return metrics


def housekeeping(services: Services, agent: str, staging: Staging | None, store: Store | None) -> Housekeeping:
    """What a process does beside stages, in its own name."""
    node = services.node
    return Housekeeping(
        settings=node.settings,
        sessions=node.sessions,
        broker=open_broker(node),
        staging=staging,
        store=store,
        pipelines=services.pipelines,
        worker_id=agent,
        witness=Witness(node.clock, longest_gap_seconds=node.settings.staging.abandon_after_seconds),
        clock=node.clock,
        log=node.log,
    )
