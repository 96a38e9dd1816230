"""Prometheus metrics of a worker process; served on `log.metrics_port` where one is set."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from dpn.errors import Misconfigured

STAGE_SECONDS_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class WorkerMetrics:
    """What a worker counts. One instance a process, passed in; nothing global."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stages_ended = Counter(
            "dpn_stages_ended_total",
            "Runs of a stage that ended",
            ["task", "stage", "outcome"],
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "dpn_stage_seconds",
            "Time that a run of a stage took",
            ["task", "stage"],
            buckets=STAGE_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("dpn_stages_running", "Stages running now", registry=self.registry)
        self.messages = Counter(
            "dpn_messages_total", "Messages received", ["topic", "answer"], registry=self.registry
        )
        self.leases_lost = Counter(
            "dpn_leases_lost_total", "Leases lost while a stage ran", registry=self.registry
        )
        self.last_sweep = Gauge(
            "dpn_last_sweep_timestamp_seconds", "When the last sweep ended", registry=self.registry
        )

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
