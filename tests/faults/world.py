"""Two nodes of real processes, a worker for each stage, bags under way from one to the other."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from dpn.cancellation import Cancellation
from models.work import WorkItem
from tests.fixtures.offered_bags import deposit_all, take_all
from tools.demo.deposit import Request
from tools.network.backends import BrokerKind, DatabaseKind, Kinds, StoreKind
from tools.network.cluster import Cluster
from tools.network.environment import checkout
from tools.network.node import RunningNode
from tools.network.services import StartedServices

ON_SERVERS = Kinds(BrokerKind.NSQ, DatabaseKind.POSTGRESQL, StoreKind.S3)
ON_FILES = Kinds()

LEASE_SECONDS = 3.0
PART_BYTES = 5 * 1024 * 1024
WORKERS = ("copy", "validate", "replication-store")
"""The processes of the node that stores: each the name of a process and of what it works on."""

SETTINGS: dict[str, dict[str, Any]] = {
    "work": {"lease_seconds": LEASE_SECONDS, "attempts": 30, "heartbeat_seconds": 1.0},
    "store": {"part_size_bytes": PART_BYTES},
    "staging": {"floor_bytes": 1_000_000},
    "transfer": {"bandwidth_limit_kib": 4_000, "io_timeout_seconds": 10, "stall_timeout_seconds": 10.0},
}


class World:
    """North deposits, south stores. Use it from the main thread, as the cluster that it stands on."""

    def __init__(self, folder: Path, kinds: Kinds, say: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.kinds = kinds
        self.requests: list[Request] = []
        self.cancelled: set[str] = set()
        """Transfers whose items an operator has cancelled, successfully."""
        self._say = say
        self._started = time.monotonic()
        self.cluster = Cluster(
            folder / "network", names=("north", "south"), kinds=kinds, settings=SETTINGS, say=self.note
        )

    @property
    def north(self) -> RunningNode:
        return self.cluster.nodes["north"]

    @property
    def south(self) -> RunningNode:
        return self.cluster.nodes["south"]

    def start(self) -> None:
        """Starts both nodes and their cron; nothing is deposited yet."""
        self.cluster.prepare()
        self.cluster.start(workers=False, cron=False)
        for worker in WORKERS:
            self.south.start(worker, "worker", worker)
        self.cluster.start_cron()

    def deposit(self, payload_bytes: list[int], rng: random.Random) -> None:
        """A bag of each size at north, to be replicated to south."""
        sources = []
        for number, size in enumerate(payload_bytes):
            source = self.folder / "deposits" / str(number)
            source.mkdir(parents=True)
            (source / "data.raw").write_bytes(rng.randbytes(size))
            sources.append(str(source))
        deposits = take_all(sources, self.folder / "built", node="north")
        self.requests = deposit_all(self.north, deposits, ["south"], now=datetime.now(UTC))

    def note(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._started:7.2f} s  {text}")

    def rest(self, seconds: float) -> None:
        """Lets things happen for a while."""
        self.cluster.wait_until(lambda: False, timeout_seconds=seconds)

    def items(self) -> list[WorkItem]:
        """South's work items; None while its database is away."""
        with suppress(SQLAlchemyError), self.south.sessions() as session:
            return list(session.scalars(select(WorkItem).order_by(WorkItem.id)))
        return []

    def down(self, server: str, number: signal.Signals = signal.SIGKILL, *, wipe: bool = False) -> None:
        """Ends a server by a signal and waits for its end; `wipe` removes its data as well."""
        services = self._services(server)
        document = json.loads((services.directory / "services.json").read_text(encoding="utf-8"))
        end(document["services"][server]["pid"], number)
        if wipe:
            command = (checkout() / "bin" / "services", "down", "--dir", services.directory, "--wipe", server)
            subprocess.run(command, check=True, capture_output=True)

    def up(self, server: str) -> None:
        """Starts a server again, where it was."""
        self._services(server).up(server, cancellation=Cancellation())

    def _services(self, server: str) -> StartedServices:
        """nsqd and nsqlookupd are south's own, all other servers are shared."""
        backends = self.cluster.backends
        return backends.services("south") if server.startswith("nsq") else backends.shared


def end(pid: int, number: signal.Signals, patience_seconds: float = 30.0) -> None:
    """Signals a process that is not our child and waits until it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, number)
        deadline = time.monotonic() + patience_seconds
        while _is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
