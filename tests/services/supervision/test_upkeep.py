"""What `dpn_node up` does with a node's processes, here small scripts: started, told to stop, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dpn.supervision.process_id import ProcessId
from dpn.supervision.state import NodeState, StateFolder
from tests.fixtures.demos import alive
from tools.network.environment import clean_environment

PATIENCE_SECONDS = 20.0

UPKEEP = """
import json, os, sys
from pathlib import Path
from dpn.clock import SystemClock
from dpn.supervision.cron import CronJob
from dpn.supervision.running import Program
from dpn.supervision.schedule import after_a_rest_of
from dpn.supervision.state import StateFolder
from dpn.supervision.upkeep import NodePlan, Upkeep
plan = json.loads(sys.argv[1])
folder = Path(plan["folder"])
def program(name, script):
    return Program(name, (sys.executable, "-P", "-c", script), dict(os.environ), folder / f"{name}.output")
groups = [[program(*one) for one in group] for group in plan["groups"]]
jobs = [CronJob(program(*one), after_a_rest_of(0.1)) for one in plan["jobs"]]
def say(text):
    print(text, flush=True)
plan = NodePlan("south", groups, jobs, plan["patience"])
Upkeep(plan, StateFolder(folder / "state"), say=say, clock=SystemClock()).run()
"""

READY = """
import os, signal, sys, time
from dpn.telemetry.readiness import notify_systemd
name = {name!r}
def told(number, frame):
    with open({stops!r}, "a") as stops:
        print(name, file=stops)
    for _ in range(100):  # more than the queue of a socket holds that nobody reads
        notify_systemd("STOPPING=1")
    if {polite}:
        sys.exit(0)
signal.signal(signal.SIGTERM, told)
notify_systemd("READY=1")
while True:
    time.sleep(0.05)
"""


def eventually(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass
class Node:
    """One that is run by a process of its own."""

    folder: Path
    groups: list[list[tuple[str, str]]] = field(default_factory=list)
    jobs: list[tuple[str, str]] = field(default_factory=list)
    patience: float = 1000.0
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def ready(self, name: str, *, polite: bool = True) -> tuple[str, str]:
        """A process that says that it is ready, and ends when told to, or notes that it was told."""
        return name, READY.format(name=name, stops=str(self.folder / "stops"), polite=polite)

    def up(self) -> subprocess.Popen[str]:
        plan = {"folder": str(self.folder), "groups": self.groups, "jobs": self.jobs, "patience": self.patience}
        process = subprocess.Popen(
            (sys.executable, "-P", "-c", UPKEEP, json.dumps(plan)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(os.environ),
        )
        self.started.append(process)
        return process

    def up_and_ready(self) -> subprocess.Popen[str]:
        process = self.up()
        eventually(lambda: (state := self.state()) and state.supervisor.pid == process.pid and state.well)
        return process

    def state(self) -> NodeState | None:
        return StateFolder(self.folder / "state").read()

    def pids(self) -> dict[str, int]:
        state = self.state()
        assert state is not None
        return {one.name: one.process.pid for one in state.processes if one.process}

    def stops(self) -> list[str]:
        path = self.folder / "stops"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for process in node.started:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=PATIENCE_SECONDS)[0]


def test_all_runs_until_told_to_stop_and_stops_in_order(node: Node) -> None:
    node.groups = [[node.ready("serve")], [node.ready("copy"), node.ready("store")]]
    process = node.up_and_ready()
    pids = node.pids()
    assert set(pids) == {"serve", "copy", "store"}
    process.terminate()
    said = end(process)
    assert process.returncode == 0
    assert node.stops()[-1] == "serve", "last of all"
    assert sorted(node.stops()) == ["copy", "serve", "store"]
    assert not any(map(alive, pids.values()))
    assert [line.split(":")[0] for line in said.splitlines()] == [
        "south", "all processes are ready", "stopping", "stopped"
    ]  # fmt: skip
    state = node.state()
    assert state is not None
    assert (state.state, state.processes) == ("down", ())


def test_whatever_is_killed_comes_back_and_the_state_says_so(node: Node) -> None:
    node.groups = [[node.ready("serve")], [node.ready("copy")]]
    process = node.up_and_ready()
    killed = node.pids()["copy"]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: node.pids().get("copy", killed) != killed)
    eventually(lambda: (state := node.state()) and state.well)
    state = node.state()
    assert state is not None
    assert [(one.restarts, one.ended) for one in state.processes] == [(0, ""), (1, "was killed by SIGKILL")]
    process.terminate()
    assert f"copy (pid {killed}) was killed by SIGKILL: started again" in end(process)


def test_a_process_that_cannot_run_is_said_to_be_down_with_its_reason(node: Node) -> None:
    node.groups = [[("serve", "import sys; sys.exit('dpn: port 8080 is taken')")]]
    process = node.up()
    eventually(lambda: (state := node.state()) and state.processes and state.processes[0].restarts >= 1)
    state = node.state()
    assert state is not None
    assert not state.well
    process.terminate()
    assert "serve (pid" in (said := end(process))
    assert "ended with exit code 1: started again (dpn: port 8080 is taken)" in said


def test_what_does_not_stop_is_told_twice_and_killed_if_told_again(node: Node) -> None:
    node.groups = [[node.ready("copy", polite=False)]]
    process = node.up_and_ready()
    (pid,) = node.pids().values()
    process.terminate()
    eventually(lambda: node.stops() == ["copy"])
    process.terminate()
    eventually(lambda: node.stops() == ["copy"] * 2)
    assert alive(pid)
    process.terminate()
    end(process)
    assert not alive(pid)


def test_sigquit_does_not_let_anything_finish(node: Node) -> None:
    node.groups = [[node.ready("copy", polite=False)]]
    process = node.up_and_ready()
    process.send_signal(signal.SIGQUIT)
    eventually(lambda: node.stops() == ["copy"] * 2)


def test_if_it_is_killed_so_is_all_that_it_runs_and_the_next_one_says_so(node: Node) -> None:
    node.groups = [[node.ready("serve")], [node.ready("copy")]]
    first = node.up_and_ready()
    pids = node.pids()
    first.kill()
    first.wait()
    eventually(lambda: not any(map(alive, pids.values())))
    second = node.up_and_ready()
    second.terminate()
    assert f"the one before (pid {first.pid}) was killed, and its processes with it" in end(second)


def test_a_process_that_outlived_a_killed_one_is_ended_before_its_place_is_taken(node: Node) -> None:
    """The kernel sees to it, but takes its time."""
    node.groups = [[node.ready("copy")]]
    first = node.up_and_ready()
    (pid,) = node.pids().values()
    state = node.state()
    assert state is not None
    first.terminate()
    end(first)
    survivor = subprocess.Popen(("sleep", "1000"))
    try:
        left = state.processes[0].model_copy(update={"process": ProcessId.of(survivor.pid)})
        StateFolder(node.folder / "state").write(state.model_copy(update={"processes": (left,)}))
        node.up_and_ready()
        assert survivor.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert node.pids()["copy"] != pid
    finally:
        survivor.kill()
        survivor.wait()


def test_jobs_run_at_their_times_and_the_last_run_is_remembered(node: Node) -> None:
    node.groups = [[node.ready("serve")]]
    ran = node.folder / "ran"
    node.jobs = [("sync", f"open({str(ran)!r}, 'a').write('x')"), ("drill", "raise SystemExit(1)")]
    process = node.up()
    eventually(lambda: ran.exists() and len(ran.read_text()) >= 2)
    eventually(lambda: (state := node.state()) and [job.failed for job in state.jobs] == [False, True])
    state = node.state()
    assert state is not None
    assert not state.well
    process.terminate()
    assert "drill ended with exit code 1, it is run again" in end(process)


def test_a_second_one_of_the_same_node_does_not_begin(node: Node) -> None:
    node.groups = [[node.ready("serve")]]
    node.up_and_ready()
    pids = node.pids()
    second = node.up()
    assert "AlreadyUp" in end(second)
    assert node.pids() == pids
    assert all(map(alive, pids.values()))


def test_a_state_that_cannot_be_written_stops_nothing_and_is_told_of(node: Node) -> None:
    node.groups = [[node.ready("serve")], [node.ready("copy")]]
    process = node.up_and_ready()
    killed = node.pids()["copy"]
    (node.folder / "state").rename(node.folder / "gone")
    (node.folder / "state").touch()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{killed}").exists())  # its end was taken note of
    process.terminate()
    said = end(process)
    assert process.returncode == 0
    assert f"{node.folder / 'state'}: Not a directory: dpn_node status shows what was before" in said
    assert "copy (pid" in said
    assert "serve" in node.stops()
