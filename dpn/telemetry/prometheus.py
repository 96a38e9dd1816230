"""A worker's metrics for Prometheus, served over HTTP. The library costs 2 MB: who serves none, loads none."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from dpn.errors import Misconfigured
from dpn.telemetry.metrics import WorkerMetrics

STAGE_SECONDS_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class PrometheusMetrics(WorkerMetrics):
    """What a worker counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._stages_ended = Counter(
            "dpn_stages_ended_total",
            "Runs of a stage that ended",
            ["task", "stage", "outcome"],
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "dpn_stage_seconds",
            "Time that a run of a stage took",
            ["task", "stage"],
            buckets=STAGE_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._running = Gauge("dpn_stages_running", "Stages running now", registry=self.registry)
        self._messages = Counter(
            "dpn_messages_total", "Messages received", ["topic", "answer"], registry=self.registry
        )
        self._leases_lost = Counter(
            "dpn_leases_lost_total", "Leases lost while a stage ran", registry=self.registry
        )
        self._last_sweep = Gauge(
            "dpn_last_sweep_timestamp_seconds", "When the last sweep ended", registry=self.registry
        )

    def message(self, topic: str, answer: str) -> None:
        self._messages.labels(topic, answer).inc()

    def running(self, stages: int) -> None:
        self._running.set(stages)

    def stage_ended(self, task: str, stage: str, outcome: str, seconds: float) -> None:
        self._stages_ended.labels(task, stage, outcome).inc()
        self._stage_seconds.labels(task, stage).observe(seconds)

    def lease_lost(self) -> None:
        self._leases_lost.inc()

    def swept(self, at: datetime) -> None:
        self._last_sweep.set(at.timestamp())

    def serve(self, host: str, port: int) -> int:
        """Serves the metrics over HTTP from a thread; returns the port (one of its own for port 0).

        Raises Misconfigured if the port is taken.
        """
        try:
            server, _thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise Misconfigured(
                f"log.metrics_port {port}: {error.strerror}: give each process of this host a port of its own, "
                f"e.g. DPN_LOG__METRICS_PORT in its unit, or 0 for any"
            ) from error
        return int(server.server_port)
