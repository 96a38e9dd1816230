"""A network of nodes on this machine, each of real processes: for the demo, and for tests that kill parts of it.

    with Cluster(folder, names=("north", "south"), kinds=Kinds(), say=print) as cluster:
        cluster.prepare()
        cluster.start()
        cluster.wait_until(lambda: …, timeout_seconds=60)

Everything happens in the thread that calls: `tick` looks after processes and cron, `wait_until` ticks. Use it from
the main thread only: its processes die with the thread that started them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from dpn.access import tokens
from dpn.cancellation import Cancellation
from dpn.cli.processes.node import SERVE
from dpn.clock import Clock, SystemClock
from dpn.registry.catalogue import ensure_nodes
from dpn.supervision.cron import Cron, CronJob
from dpn.supervision.running import Exit, Running, log_tail
from dpn.supervision.schedule import after_a_rest_of
from dpn.supervision.supervisor import Supervisor, UnaskedExit
from tools.network.backends import Backends, Kinds
from tools.network.errors import Broken
from tools.network.node import RSYNCD, WORKER, RunningNode
from tools.network.place import NAMES, Place, Ports, node_settings, write_rsyncd_configuration, write_settings
from tools.network.toml_text import Table, merged
from tools.services.ports import LOOPBACK, answers, free_ports, is_free

DEFAULT_KINDS = Kinds()
PORT_ATTEMPTS = 5
READY_SECONDS = 60.0
TICK_SECONDS = 0.1

GIVE_UP_AFTER = 5
"""So often in a row a process may end by itself soon after its start. Being killed never counts: it is somebody's
experiment."""
CRON_SECONDS = 2.0
"""Rest between two rounds of one node."""
CRON_AT_ONCE = 2
"""How many nodes' jobs run at the same time: each is a Python that starts, and a demo has few processors."""

Say = Callable[[str], None]


class Cluster:
    """See the module's docstring. As a context manager it stops all that it started, whatever happened."""

    def __init__(
        self,
        directory: Path,
        *,
        names: Sequence[str] = NAMES[:3],
        kinds: Kinds = DEFAULT_KINDS,
        settings: Mapping[str, Table] | None = None,
        settings_of: Mapping[str, Table] | None = None,
        say: Say = lambda _: None,
        cron_seconds: float = CRON_SECONDS,
        cancellation: Cancellation | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`settings` go over every node's own: `{"work": {"lease_seconds": 3}}`; `settings_of` over that,
        for the nodes that it names. `cancellation` ends waits."""
        self.directory = directory
        self.backends = Backends(directory, kinds)
        self.nodes: dict[str, RunningNode] = {}
        self._places = [Place(name, directory / name) for name in names]
        self._over = dict(settings or {})
        self._over_of = dict(settings_of or {})
        self._say = say
        self._supervisor = Supervisor(self._ended)
        self._cron = Cron(say, clock=SystemClock(), at_once=CRON_AT_ONCE)
        self._cron_seconds = cron_seconds
        self._cancellation = cancellation or Cancellation()
        self._clock = clock or SystemClock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def prepare(self) -> None:
        """Makes folders, servers, databases, tokens and settings; no node runs yet. Raises Broken, Unusable."""
        for place in self._places:
            place.make_folders()
        self.backends.start(self._places, self._cancellation)
        for place in self._places:
            node = RunningNode(place, self.backends.database_url(place), self._supervisor)
            self.nodes[place.name] = node
            node.create_database()
        self._issue_tokens()
        self._choose_ports(self.nodes)
        self._configure()

    def start(self, *, workers: bool = True, cron: bool = True) -> None:
        """Starts every node's servers, waits until they answer, then starts workers and cron. Raises Broken."""
        self._open_servers()
        for node in self.nodes.values():
            if workers:
                node.start(WORKER)
        if cron:
            self.start_cron()

    def start_cron(self) -> None:
        """From now on sync and queue run for every node, one after the other, every few seconds."""
        long_ago = SystemClock().now() - timedelta(days=1)
        for node in reversed(self.nodes.values()):  # the one that deposits has nothing to fetch
            job = CronJob(node.program("cron", "cron", "sync", "queue"), after_a_rest_of(self._cron_seconds))
            self._cron.add(job, last=long_ago)

    def stop_nodes(self) -> None:
        """Stops cron and every process of every node; the servers that they stand on go on."""
        self._cron.remove_all()
        self._supervisor.drop_all()

    def stop(self) -> None:
        """Stops everything that was started. Raises Broken if a server could not be stopped."""
        try:
            self.stop_nodes()
        finally:
            for node in self.nodes.values():
                node.close()
            self.backends.stop()

    def tick(self) -> None:
        """Looks after processes and cron once: call it a few times a second. Raises Broken."""
        self._supervisor.tick()
        self._cron.tick()

    def wait_until(self, condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
        """Ticks until the condition holds; false if it never did in that time. Raises Broken."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._cancellation.check()
            self.tick()
            if condition():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(TICK_SECONDS)

    def _ended(self, ended: UnaskedExit) -> None:
        if ended.restart.failures >= GIVE_UP_AFTER:
            program, times = ended.program, ended.restart.failures
            end = f"the end of {program.log}:\n{log_tail(program.log)}"
            raise Broken(f"{program.name} {ended.ending}, {times} times in a row; {end}")
        self._say(str(ended))

    def _issue_tokens(self) -> None:
        """Every node issues a token to every other, which keeps it in a file."""
        for issuer in self.nodes.values():
            with issuer.sessions.begin() as session:
                for holder in self.nodes.values():
                    if holder is not issuer:
                        token = tokens.issue(session, holder.name, now=self._clock.now())
                        holder.place.write_secret(f"{issuer.name}.token", token)
                        issuer.peer_token = token

    def _choose_ports(self, names: Sequence[str] | Mapping[str, RunningNode]) -> None:
        ports = iter(free_ports(2 * len(names)))
        for name in names:
            self.nodes[name].ports = Ports(registry=next(ports), rsync=next(ports))

    def _configure(self) -> None:
        """Writes what every process of every node reads, and enters all nodes in every registry."""
        for node in self.nodes.values():
            peers = {other.name: other.ports for other in self.nodes.values() if other is not node}
            over = merged(self._over, self._over_of.get(node.name, {}))
            stands_on = merged(self.backends.settings(node.place), over)
            write_settings(node.place, node_settings(node.place, node.ports, peers, stands_on=stands_on))
            write_rsyncd_configuration(node.place, node.ports)
            with node.sessions.begin() as session:
                ensure_nodes(session, node.settings.node, node.settings.peers, now=self._clock.now())

    def _open_servers(self) -> None:
        """Starts what listens. Where somebody else was faster on a port, its node gets others: all must know."""
        for _ in range(PORT_ATTEMPTS):
            started = {node: (node.start(SERVE), node.start(RSYNCD)) for node in self.nodes.values()}
            losers = [node.name for node, servers in started.items() if not self._is_open(node, servers)]
            if not losers:
                return
            self._supervisor.drop_all()
            self._choose_ports(losers)
            self._configure()
        raise Broken(f"no free ports on {LOOPBACK} after {PORT_ATTEMPTS} attempts: another program takes them all")

    def _is_open(self, node: RunningNode, servers: Sequence[Running]) -> bool:
        """Waits until the node's servers answer; false if a port of its is taken. Raises Broken."""
        deadline = time.monotonic() + READY_SECONDS
        while not (node.answers() and answers(node.ports.rsync)):
            self._cancellation.check()
            for running in servers:
                if ending := running.ending():
                    return _port_was_taken(node, running, ending)
            if time.monotonic() > deadline:
                raise Broken(f"{node.name}: its servers do not answer; see the logs in {node.place.logs}")
            time.sleep(TICK_SECONDS)
        return all(running.ending() is None for running in servers)


def _port_was_taken(node: RunningNode, running: Running, ending: Exit) -> bool:
    """Returns false if that is why a server ended at once. Raises Broken if it is not."""
    if is_free(node.ports.registry if running.program.name.endswith(SERVE) else node.ports.rsync):
        log = running.program.log
        raise Broken(f"{running.program.name} {ending} while starting; the end of {log}:\n{log_tail(log)}")
    return False
