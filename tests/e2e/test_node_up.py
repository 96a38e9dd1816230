"""A real node run by `dpn_node`: up, whatever is killed, and down with nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dpn.cli.processes.node import JOBS, STAGE_WORKERS
from dpn.supervision.state import StateFolder
from tests.fixtures.demos import alive, command_lines, eventually
from tests.fixtures.offered_bags import deposit_all, take_all
from tools.demo.copies import read_back
from tools.demo.watch import Watch
from tools.network.cluster import Cluster
from tools.network.environment import clean_environment
from tools.network.node import RSYNCD, RunningNode

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0
LEASE_SECONDS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    settings = {"work": {"lease_seconds": LEASE_SECONDS}}
    with Cluster(tmp_path / "network", names=("north", "south"), settings=settings) as cluster:
        cluster.prepare()
        yield cluster
        for node in cluster.nodes.values():
            if folder(node).is_held():
                dpn_node(node, "down", "--now")


@pytest.fixture
def south(cluster: Cluster) -> RunningNode:
    return cluster.nodes["south"]


def command(node: RunningNode, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "dpn.cli.main", "node", *words, "--config", str(node.place.settings_file)]


def dpn_node(node: RunningNode, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(node, *words),
        capture_output=True,
        text=True,
        env=clean_environment(os.environ),
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def folder(node: RunningNode) -> StateFolder:
    return StateFolder(node.place.directory / "processes")


def well(node: RunningNode) -> bool:
    """What `dpn_node status` would say; a command of Python's for each look would keep a machine busy."""
    state = folder(node).read()
    return state is not None and state.well


def status(node: RunningNode) -> tuple[int, dict[str, Any]]:
    done = dpn_node(node, "status", "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def pids(document: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["process"]["pid"] for one in document["processes"] if one["process"]}


def running(node: RunningNode) -> list[str]:
    return [line for _, line in command_lines() if f"{node.place.directory}/" in line and "down" not in line]


def test_every_process_of_a_node_is_up_comes_back_when_it_is_killed_and_is_down_in_the_end(
    south: RunningNode,
) -> None:
    assert status(south) == (1, {"node": "south", "state": "down"})
    up = dpn_node(south, "up", "--detach")
    assert up.returncode == 0, up.stderr
    code, document = status(south)
    assert (code, document["state"]) == (0, "up")
    assert set(pids(document)) == {"serve", *(f"worker-{stage}" for stage in STAGE_WORKERS)}
    assert {job["name"] for job in document["jobs"]} == set(JOBS)
    assert south.answers()
    again = dpn_node(south, "up")
    assert (again.returncode, again.stdout) == (1, "")
    assert "is up already" in again.stderr

    killed = pids(document)
    for name in ("serve", "worker-validate"):
        os.kill(killed[name], signal.SIGKILL)
    assert eventually(lambda: not well(south), seconds=20)
    assert eventually(lambda: well(south))
    code, document = status(south)
    assert code == 0
    restarts = {one["name"]: (one["restarts"], one["ended"]) for one in document["processes"] if one["restarts"]}
    assert restarts == dict.fromkeys(("serve", "worker-validate"), (1, "was killed by SIGKILL"))
    assert "worker-validate: last time it was killed by SIGKILL" in dpn_node(south, "status").stdout

    down = dpn_node(south, "down")
    assert (down.returncode, down.stdout.splitlines()[-1]) == (0, "south is down")
    assert running(south) == []
    assert dpn_node(south, "down").returncode == 0, "it may be said twice"
    assert status(south)[0] == 1


def test_if_what_runs_the_node_is_killed_nothing_is_left_and_the_next_one_takes_over(south: RunningNode) -> None:
    assert dpn_node(south, "up", "--detach", "--workers", "all").returncode == 0
    first = status(south)[1]
    os.kill(first["supervisor"]["pid"], signal.SIGKILL)
    assert eventually(lambda: not any(alive(pid) for pid in pids(first).values()), seconds=10)
    told = dpn_node(south, "status")
    assert (told.returncode, "was killed, and its processes with it" in told.stdout) == (1, True)
    assert dpn_node(south, "up", "--detach", "--workers", "all").returncode == 0
    code, second = status(south)
    assert code == 0
    assert not set(pids(first).values()) & set(pids(second).values())
    output = (south.place.logs / "dpn_node.output").read_text(encoding="utf-8")
    assert f"the one before (pid {first['supervisor']['pid']}) was killed, and its processes with it" in output


def test_in_the_foreground_it_says_what_happens_and_ctrl_c_stops_it(south: RunningNode) -> None:
    process = subprocess.Popen(
        command(south, "up", "--workers", "all", "--without", "drill"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(os.environ),
    )
    assert eventually(lambda: well(south))
    assert "drill" not in {job["name"] for job in status(south)[1]["jobs"]}
    process.send_signal(signal.SIGINT)
    said, problems = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, problems) == (0, "")
    assert [line.partition("Z  ")[2].partition(":")[0] for line in said.splitlines()] == [
        "south", "all processes are ready", "stopping", "stopped"
    ]  # fmt: skip
    assert running(south) == []


def test_a_node_that_cannot_start_says_why_and_leaves_nothing(south: RunningNode) -> None:
    settings = south.place.settings_file
    settings.write_text(settings.read_text(encoding="utf-8").replace("[processes]", "[process]"), encoding="utf-8")
    for words in (("up",), ("status",)):
        done = dpn_node(south, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "process: unknown key" in done.stderr


def test_bags_arrive_between_nodes_that_are_run_so(cluster: Cluster, south: RunningNode, tmp_path: Path) -> None:
    north = cluster.nodes["north"]
    north.start(RSYNCD)
    for node in (north, south):
        assert dpn_node(node, "up", "--detach", "--workers", "all").returncode == 0
    deposits = take_all([], tmp_path / "built", node="north")
    requests = deposit_all(north, deposits, ["south"], now=datetime.now(UTC))
    done = south.cron()
    assert done.returncode == 0, done.stdout
    watch = Watch(cluster.nodes, requests)
    assert cluster.wait_until(lambda: watch.look()[0].is_final, timeout_seconds=PATIENCE_SECONDS)
    assert all(copy.verified for copy in read_back(cluster.nodes, requests, cluster.backends))
