"""The course of a demo: judge the sources, start a network, deposit, watch, read the copies back, say it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from dpn.cancellation import Cancellation, cancelled_by_signals
from dpn.clock import SystemClock
from tools.demo.copies import read_back
from tools.demo.corruption import Repair, begin, line_of, look, victims
from tools.demo.damage import Spoiler
from tools.demo.deposit import DepositState, Ingests, Request
from tools.demo.progress import Display, open_progress, readable_bytes
from tools.demo.report import STDOUT, Result, check_json_file, items_command, print_result, write_json
from tools.demo.sources import S3, DemoSource, check_apart, judge_all
from tools.demo.watch import BagProgress, Watch
from tools.demo.workdir import Workdir, open_workdir
from tools.network.backends import Kinds
from tools.network.cluster import Cluster
from tools.network.environment import find_program
from tools.network.errors import EXIT_NOT_EVERYWHERE, StopRequested, Unusable
from tools.network.node import RunningNode
from tools.network.place import NAMES
from tools.network.services import program as services_program
from tools.network.toml_text import Table

T = TypeVar("T")

LOOK_SECONDS = 0.3

BASE_TIMEOUT_SECONDS = 600.0
SLOWEST_BYTES_PER_SECOND = 5_000_000
"""How fast bags go through all stages at least: what the bytes of all copies are given beyond the base."""


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    sources: Sequence[str]
    nodes: int
    kinds: Kinds
    workdir: Path | None
    keep: bool
    json_file: Path | None
    timeout_seconds: float | None
    s3: Table = field(default_factory=dict)
    """The table [ingest.s3] of the node that fetches sources from S3."""
    corrupt: bool = False
    """Whether stored copies are spoilt in the end, for the nodes to find and repair."""

    @property
    def settings(self) -> dict[str, Table]:
        """What every node has beyond the usual: where copies go bad, they are to be repaired, and soon."""
        return {"recovery": {"repair": True}, "fixity": {"look_again_seconds": 1.0}} if self.corrupt else {}

    @property
    def settings_of(self) -> dict[str, Table]:
        """What only the depositing node has in its settings: access to S3, if anything lies there."""
        fetches = any(source.startswith(S3) for source in self.sources)
        return {self.names[0]: {"ingest": {"s3": self.s3}}} if fetches else {}

    @property
    def names(self) -> Sequence[str]:
        return NAMES[: self.nodes]


def run_demo(order: Order) -> int:
    """Runs the demo; returns the exit code. Raises Unusable, Broken, StopRequested: all is stopped then, too."""
    started = time.monotonic()
    _check_programs(order.kinds)
    check_json_file(order.json_file)
    if order.workdir is not None:
        check_apart(order.sources, order.workdir.expanduser())
    with (
        cancelled_by_signals(StopRequested) as cancellation,
        open_workdir(order.workdir, keep=order.keep) as workdir,
    ):
        check_apart(order.sources, workdir.path)
        workdir.spare(order.json_file)
        workdir.mark(order.names)
        try:
            with (
                open_progress(Console(stderr=True)) as progress,
                Cluster(
                    workdir.path,
                    names=order.names,
                    kinds=order.kinds,
                    settings=order.settings,
                    settings_of=order.settings_of,
                    say=progress.say,
                    cancellation=cancellation,
                ) as cluster,
            ):
                result = _Run(order, cluster, progress, cancellation, started).replicate()
        except (Unusable, StopRequested):
            raise
        except Exception:
            workdir.keep = True
            Console(stderr=True).out(f"kept to be looked into: {workdir.path}", highlight=False)
            raise
        workdir.keep = workdir.keep or not result.ok
        _tell(result, cluster, workdir, order.json_file)
    return 0 if result.ok else EXIT_NOT_EVERYWHERE


def _check_programs(kinds: Kinds) -> None:
    """Raises Unusable if a program that is needed is not there."""
    find_program("setpriv", "util-linux")
    find_program("rsync", "rsync")
    if kinds.shared_services or kinds.own_services:
        services_program()


def default_timeout_seconds(sources: Sequence[DemoSource], *, copies: int) -> float:
    """How long a demo of these sources may take before it is given up."""
    return BASE_TIMEOUT_SECONDS + (copies + 1) * sum(source.size for source in sources) / SLOWEST_BYTES_PER_SECOND


@dataclass(frozen=True)
class _Run:
    """One run on one cluster."""

    order: Order
    cluster: Cluster
    progress: Display
    cancellation: Cancellation
    started: float

    def replicate(self) -> Result:
        sources = self._judge()
        self.progress.say("starting the " + ("servers" if self.cluster.backends.needs_servers else "nodes"))
        self.cluster.prepare()
        self.cluster.start()
        owner, *others = self.order.names
        deadline = self.started + (
            self.order.timeout_seconds or default_timeout_seconds(sources, copies=len(others))
        )
        ingests = Ingests(self.cluster.nodes[owner], sources, clock=SystemClock())
        seen = self._watch_ingests(ingests, deadline)
        offered = [request for ingest in seen if ingest.requests for request in ingest.requests_to(others)]
        positions = self._watch(offered, deadline) if offered else []
        if positions and all(position.succeeded for position in positions):
            self._await_ends(ingests, deadline)
        positions += [
            BagProgress(request, ingest.stage, ingest.status, ingest.note, item_id=ingest.item_id)
            for ingest in seen
            if not ingest.requests
            for request in ingest.requests_to(others)
        ]
        repairs = self._corrupt(positions, deadline) if self.order.corrupt else []
        self.progress.say("reading the copies back")
        self.cluster.stop_nodes()
        requests = [position.request for position in positions]
        copies = read_back(self.cluster.nodes, requests, self.cluster.backends, cancellation=self.cancellation)
        seconds = time.monotonic() - self.started
        return Result(seconds, positions, copies, repairs, corrupted=self.order.corrupt)

    def _judge(self) -> list[DemoSource]:
        owner, *others = self.order.names
        folder = self.cluster.directory / owner / "deposits"
        say = self.progress.say
        sources = judge_all(self.order.sources, folder, s3=self.order.s3, say=say, cancellation=self.cancellation)
        count = "1 deposit" if len(sources) == 1 else f"{len(sources)} deposits"
        total = readable_bytes(sum(source.size for source in sources))
        say(f"{count}, {total}, from {owner} to {', '.join(others)}")
        return sources

    def _watch_ingests(self, ingests: Ingests, deadline: float) -> list[DepositState]:
        """Says how far the deposits are until all bags are offered, or the time is over; says where they are."""
        told: dict[int, str] = {}

        def look() -> list[DepositState]:
            seen = ingests.look()
            for ingest in seen:
                line = f"{ingest.bag}  {ingest.stage:<8} {ingest.status:<9} {ingest.note}"
                if told.get(ingest.item_id) != line:
                    told[ingest.item_id] = line
                    self.progress.say(line)
            return seen

        return self._look_until(look, lambda ingest: ingest.is_offered, deadline)

    def _await_ends(self, ingests: Ingests, deadline: float) -> list[DepositState]:
        """Waits until the owner has seen that all copies exist."""
        return self._look_until(ingests.look, lambda ingest: ingest.is_final, deadline)

    def _watch(self, requests: Sequence[Request], deadline: float) -> list[BagProgress]:
        """Shows how the bags travel until all have arrived or failed, or the time is over; says where they are."""
        watch = Watch(self.cluster.nodes, requests)

        def look() -> list[BagProgress]:
            positions = watch.look()
            self.progress.show(positions)
            return positions

        return self._look_until(look, lambda position: position.is_final, deadline)

    def _corrupt(self, positions: Sequence[BagProgress], deadline: float) -> list[Repair]:
        """Has copies that have arrived go bad, one after the other, and looks on how their nodes repair them."""
        there = [position.request for position in positions if position.succeeded]
        spoiler, repairs = Spoiler(self.cluster.backends, self.cancellation), []
        for name, bag, damage in victims(there, self.order.names[1:]):
            node = self.cluster.nodes[name]
            self.progress.say(f"spoiling the copy of {bag} at {name}: {damage}")
            spoiler.spoil(node, bag, damage)
            repairs.append(self._watch_repair(node, begin(node, bag, damage), deadline))
        return repairs

    def _watch_repair(self, node: RunningNode, repair: Repair, deadline: float) -> Repair:
        """Says how the node finds the damage and repairs it, until it has, or the time is over."""
        seen = repair

        def look_again() -> list[Repair]:
            nonlocal seen
            before, seen = seen, look(node, seen)
            if (seen.note, seen.item_id) != (before.note, before.item_id):
                self.progress.say(line_of(seen))
            return [seen]

        self._look_until(look_again, lambda one: one.ended, deadline)
        return seen

    def _look_until(self, look: Callable[[], list[T]], done: Callable[[T], bool], deadline: float) -> list[T]:
        """Looks a few times a second, until all are done or the time is over; returns what was seen last."""
        seen: list[T] = []
        next_look = 0.0

        def all_done() -> bool:
            nonlocal seen, next_look
            if time.monotonic() >= next_look:
                with suppress(SQLAlchemyError):  # a database that was killed comes back, or the time runs out
                    seen = look()
                next_look = time.monotonic() + LOOK_SECONDS
            return bool(seen) and all(done(one) for one in seen)

        left = max(0.0, deadline - time.monotonic())
        if not self.cluster.wait_until(all_done, timeout_seconds=left):
            self.progress.say("the time is over (--timeout)")
        return seen


def _tell(result: Result, cluster: Cluster, workdir: Workdir, json_file: Path | None) -> None:
    console = Console(stderr=json_file == STDOUT)
    print_result(result, cluster.nodes, console)
    if json_file is not None:
        write_json(result, json_file)
    if not workdir.keep:
        return
    console.out(f"kept: {workdir.path}", highlight=False)
    for command in cluster.backends.how_to_bring_back():
        console.out(f"  {command}", highlight=False)
    for node in cluster.nodes.values():
        console.out(f"  {items_command(node.place)}", highlight=False)
