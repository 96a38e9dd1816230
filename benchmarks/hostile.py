"""What a hostile member costs the others: the time of two honest nodes' transfers, without it and beside it.

    .venv/bin/python -m benchmarks.hostile [--bags 20] [--mib 4] [--database sqlite|postgresql] [--dir DIR]

South keeps copies for north, west and east, all of real processes. First north and west offer it so many bags
each, while east is quiet; then as many again, while east (`hostile_member.py`) does all that a member can do, at
once. The time goes from the start of `dpn sync` to the last stored copy; sync and queue run as cron has them.
Exit 1 if the honest ones need more than twice the time, or if east got something that it may not have.
Figures: hostile.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select

from benchmarks.hostile_member import NAME as HOSTILE
from dpn.access import tokens
from dpn.clock import SystemClock
from dpn.supervision.cron import Cron, CronJob
from dpn.supervision.running import tied_to_us
from dpn.supervision.schedule import after_a_rest_of
from models.work import Status, Task, WorkItem
from tests.fixtures.offered_bags import OfferedBag, deposit_all, take_all
from tools.network.backends import BrokerKind, DatabaseKind, Kinds
from tools.network.cluster import Cluster
from tools.network.environment import find_program
from tools.network.node import WORKER, RunningNode
from tools.network.place import Place
from tools.services.ports import LOOPBACK, free_ports

HONEST = ("north", "west")
AT_MOST = 2.0
TIMEOUT_SECONDS = 900.0
CRON_SECONDS = 2.0
READY_SECONDS = 120.0

SLOW_KIB = 8
"""A second: all that its rsync server gives. The least rate is 64."""

SHOWN = {"of some MB": (8, 3_000_000), "that would fill the volume": (2, 2**40)}
"""How many files its rsync server has, and their bytes; the large ones are holes."""

RSYNCD = """\
port = {port}
address = {host}
use chroot = no
uid = {uid}
gid = {gid}
pid file =
log file = {folder}/rsyncd.log
[outbound]
path = {folder}/outbound
read only = yes
"""


@dataclass(frozen=True)
class Half:
    """What the honest nodes saw."""

    seconds: float
    slowest_answer: float
    """Of south's own registry server, asked by an honest node all the time; seconds."""


class Hostile:
    """The process that plays the hostile member, and its rsync server."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], rsync_port: int) -> None:
        self._folder = folder
        self._process = process
        self.rsync_port = rsync_port
        self.registry_port = int(self._said())

    def order(self, mode: str, **more: Any) -> dict[str, int]:
        """Makes it do so; returns what it has done so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"mode": mode, **more}) + "\n")
        self._process.stdin.flush()
        done: dict[str, int] = json.loads(self._said())
        return done

    def is_at_it(self) -> bool:
        """Whether its assault on the node's own server is under way."""
        return {"idle connections", "bodies of repeated keys", "lies told"} <= self.order("report").keys()

    def show_files(self) -> dict[str, int]:
        """Puts files into its rsync server; returns their names and sizes."""
        shown = {}
        for number, size in SHOWN.values():
            for _ in range(number):
                uuid = str(uuid4())
                with (self._folder / "outbound" / f"{uuid}.tar").open("wb") as file:
                    file.write(os.urandom(1_000_000))
                    file.truncate(size)
                shown[uuid] = size
        return shown

    @property
    def link(self) -> str:
        return f"rsync://{LOOPBACK}:{self.rsync_port}/outbound/{{bag}}.tar"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def hostile_member(folder: Path) -> Iterator[Hostile]:
    """Runs it; its processes end with the block."""
    (folder / "outbound").mkdir(parents=True)
    (port,) = free_ports(1)
    configuration = folder / "rsyncd.conf"
    configuration.write_text(
        RSYNCD.format(port=port, host=LOOPBACK, uid=os.getuid(), gid=os.getgid(), folder=folder), encoding="utf-8"
    )
    rsyncd = [find_program("rsync", "rsync"), "--daemon", "--no-detach", f"--config={configuration}"]
    member = [sys.executable, "-m", "benchmarks.hostile_member"]
    with (
        subprocess.Popen(tied_to_us(*rsyncd, f"--bwlimit={SLOW_KIB}", number=signal.SIGTERM)) as server,
        subprocess.Popen(
            tied_to_us(*member, number=signal.SIGTERM), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            yield Hostile(folder, process, port)
        finally:
            server.terminate()
            process.kill()


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="dpn-bench-", dir=arguments.dir) as scratch:
        folder = Path(scratch)
        with (
            hostile_member(folder / HOSTILE) as hostile,
            _cluster(folder / "nodes", hostile, arguments) as cluster,
        ):
            cluster.prepare()
            south = cluster.nodes["south"]
            token = _token(south)
            cluster.start(workers=False, cron=False)
            south.start(WORKER)
            undisturbed_bags = _bags(folder / "undisturbed", arguments.bags, arguments.mib)
            bags = _bags(folder / "disturbed", arguments.bags, arguments.mib)
            offered = take_all([str(_source(folder / "own" / "offered", 1))], folder / "own", node="south")
            undisturbed = _measure(cluster, undisturbed_bags)
            honest = [bag.record.to_wire() for some in undisturbed_bags.values() for bag in some]
            hostile.order("claims", honest=honest, shown=hostile.show_files(), link=hostile.link)
            deposit_all(south, offered, [HOSTILE], now=datetime.now(UTC))
            _let_it_begin(cluster)
            hostile.order("attack", honest=honest, port=south.ports.registry, token=token)
            cluster.wait_until(hostile.is_at_it, timeout_seconds=READY_SECONDS)
            disturbed = _measure(cluster, bags)
            done = hostile.order("report")
            got = _taken_from(south, offered)
    return _report(undisturbed, disturbed, done, got, 2 * arguments.bags, arguments.mib)


def _report(undisturbed: Half, disturbed: Half, done: dict[str, int], got: list[str], bags: int, mib: int) -> int:
    ratio = disturbed.seconds / undisturbed.seconds
    for name, half in (("undisturbed", undisturbed), ("beside a hostile member", disturbed)):
        print(
            f"{name}: {bags} bags of {mib} MiB stored in {half.seconds:.1f} s; "
            f"the slowest answer of our server took {half.slowest_answer:.2f} s"
        )
    print(f"{ratio:.2f} times (wanted: at most {AT_MOST:g}); load {os.getloadavg()[0]:.1f}")
    print("the hostile member: " + ", ".join(f"{number:,} {what}" for what, number in done.items()))
    print(f"what it got that it may not have: {', '.join(got) or 'nothing'}")
    return 1 if ratio > AT_MOST or got else 0


def _cluster(folder: Path, hostile: Hostile, arguments: argparse.Namespace) -> Cluster:
    place = Place("south", folder / "south")
    place.make_folders()
    peer: dict[str, Any] = {
        "api_root": f"http://{LOOPBACK}:{hostile.registry_port}",
        "token_file": place.write_secret(f"{HOSTILE}.token", "its-token"),
        "rsync": {"mode": "daemon", "hosts": [LOOPBACK], "port": hostile.rsync_port},
    }
    kinds = Kinds(BrokerKind.EMBEDDED, DatabaseKind(arguments.database))
    return Cluster(
        folder, names=("south", *HONEST), kinds=kinds, settings_of={"south": {"peers": {HOSTILE: peer}}}
    )


def _token(south: RunningNode) -> str:
    with south.sessions.begin() as session:
        return tokens.issue(session, HOSTILE, now=SystemClock().now())


def _measure(cluster: Cluster, bags: dict[str, list[OfferedBag]]) -> Half:
    south, answers = cluster.nodes["south"], [0.0]
    for owner, some in bags.items():
        deposit_all(cluster.nodes[owner], some, ["south"], now=datetime.now(UTC))
    wanted = _stored(south) + sum(map(len, bags.values()))
    with _cron(south) as cron:
        started = time.monotonic()

        def all_stored() -> bool:
            cron.tick()
            asked = time.monotonic()
            assert south.answers(), "south's server does not answer an honest node"
            answers.append(time.monotonic() - asked)
            return _stored(south) == wanted

        if not cluster.wait_until(all_stored, timeout_seconds=TIMEOUT_SECONDS):
            raise SystemExit(
                f"{_stored(south)} of {wanted} stored after {TIMEOUT_SECONDS} s: see {south.place.logs}"
            )
        return Half(time.monotonic() - started, max(answers))


def _let_it_begin(cluster: Cluster) -> None:
    """Until the hostile member's transfers are being worked on."""
    south = cluster.nodes["south"]
    south.run("sync")
    south.run("queue")

    def runs() -> bool:
        with south.sessions() as session:
            return bool(
                session.scalar(
                    select(func.count()).where(WorkItem.remote_node == HOSTILE, WorkItem.status == Status.RUNNING)
                )
            )

    if not cluster.wait_until(runs, timeout_seconds=READY_SECONDS):
        raise SystemExit(f"none of its transfers is worked on: see {south.place.logs}")


@contextmanager
def _cron(south: RunningNode) -> Iterator[Cron]:
    """sync and queue, beside each other, as a crontab has them."""
    cron = Cron(lambda _: None, clock=SystemClock())
    try:
        for job in ("sync", "queue"):
            cron.add(
                CronJob(south.program(job, job), after_a_rest_of(CRON_SECONDS)),
                last=datetime.min.replace(tzinfo=UTC),
            )
        yield cron
    finally:
        cron.remove_all()


def _stored(south: RunningNode) -> int:
    """Transfers of honest nodes that have come to their good end."""
    with south.sessions() as session:
        done = (
            WorkItem.task == Task.REPLICATION,
            WorkItem.remote_node.in_(HONEST),
            WorkItem.status == Status.SUCCESS,
        )
        return session.scalar(select(func.count()).where(*done)) or 0


def _taken_from(south: RunningNode, offered: Sequence[OfferedBag]) -> list[str]:
    """What the hostile member must not have: bags that it asked back, bags of its own in our store."""
    given = {path.stem for path in (south.place.outbound / HOSTILE).glob("*.tar")} - {bag.uuid for bag in offered}
    with south.sessions() as session:
        its = (WorkItem.remote_node == HOSTILE, WorkItem.status == Status.SUCCESS)
        kept = session.scalars(select(WorkItem.id).where(*its, WorkItem.task != Task.NOTICE)).all()
    return [f"the bag {uuid}" for uuid in sorted(given)] + [f"the success of item {number}" for number in kept]


def _bags(folder: Path, number: int, mib: int) -> dict[str, list[OfferedBag]]:
    return {
        node: take_all(
            [str(_source(folder / f"{node}-{one}", mib << 20)) for one in range(number)], folder / node, node=node
        )
        for node in HONEST
    }


def _source(folder: Path, size: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "payload.bin").write_bytes(os.urandom(size))
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bags", type=int, default=20, help="of each honest node, in each half")
    parser.add_argument("--mib", type=int, default=4, help="size of a bag")
    parser.add_argument("--database", choices=[kind.value for kind in DatabaseKind], default="sqlite")
    parser.add_argument("--dir", type=Path, help="where scratch files go; needs five times the bags' size")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
