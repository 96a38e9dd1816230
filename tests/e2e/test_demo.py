"""bin/demo as a whole: real bags travel between real processes, whatever is killed, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.fixtures.demos import Demos, eventually, expect_verified, running_stage
from tests.fixtures.in_full import in_full, some_of
from tools.network.environment import clean_environment

pytestmark = pytest.mark.slow


def test_real_bags_arrive_at_every_other_node_and_nothing_is_left_running(
    demos: Demos, real_bags: list[Path]
) -> None:
    demo = demos.run(*real_bags, "--keep")
    expect_verified(demo, real_bags, nodes=("south", "west"))
    for copy in demo.copies():
        path = Path(unquote(urlsplit(copy["url"]).path))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == copy["sha256"]
    assert f"{2 * len(real_bags)} of {2 * len(real_bags)} copies verified" in demo.output
    assert demo.processes() == []


def test_only_the_result_is_on_stdout_and_a_kept_folder_answers_the_operators_commands(
    demos: Demos, small_folder: Path
) -> None:
    demo = demos.run(small_folder, "--nodes", "2", "--keep")
    verified, last, *where = demo.output.splitlines()
    assert verified.startswith("verified  south")
    assert last.startswith("1 of 1 copies verified")
    assert where[0] == f"kept: {demo.workdir}"
    assert "store" in demo.problems
    command = (sys.executable, "-P", "-m", "dpn.cli.main", *shlex.split(where[-1])[1:], "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment(os.environ))
    (item,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (item["status"], item["bag"]) == ("success", demo.document()["bags"][0]["uuid"])


def test_a_worker_that_is_killed_comes_back_and_the_bags_arrive(demos: Demos, small_folder: Path) -> None:
    demo = demos.start(small_folder, "--nodes", "2")
    assert eventually(lambda: len(demo.processes("worker all")) == 2)
    killed = demo.processes("worker all")
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert demo.wait() == 0, demo.problems
    for pid in killed:
        assert f"(pid {pid}) was killed by SIGKILL: started again" in demo.problems
    assert all(copy["verified"] for copy in demo.copies())


@in_full
def test_servers_that_are_killed_come_back_and_the_bags_arrive(demos: Demos, large_folder: Path) -> None:
    demo = demos.start(large_folder, "--nodes", "2")
    assert eventually(lambda: running_stage(demo, "south") == "copy")
    for what in (" serve", "rsyncd.conf"):
        for pid in demo.processes(what):
            os.kill(pid, signal.SIGKILL)
    assert demo.wait() == 0, demo.problems
    assert demo.problems.count("was killed by SIGKILL: started again") == 4
    assert not demo.workdir.exists()


@pytest.mark.parametrize(("number", "code"), some_of([(signal.SIGTERM, 143), (signal.SIGINT, 130)]))
def test_a_demo_that_is_stopped_stops_everything_at_once(
    demos: Demos, large_folder: Path, number: signal.Signals, code: int
) -> None:
    demo = demos.start(large_folder)
    assert eventually(lambda: running_stage(demo, "south") is not None)
    demo.process.send_signal(number)
    assert demo.wait() == code
    assert demo.processes() == []
    assert not demo.workdir.exists()


def test_a_demo_that_is_killed_leaves_nothing_running(demos: Demos, large_folder: Path) -> None:
    demo = demos.start(large_folder)
    assert eventually(lambda: running_stage(demo, "south") is not None)
    assert demo.processes("worker all")
    demo.process.kill()
    demo.wait()
    assert eventually(lambda: not demo.processes(), seconds=10)
    assert eventually(lambda: not demo.workdir.exists(), seconds=10)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/no/such/folder"], "/no/such/folder: No such file or directory"),
        ([__file__], "not a bag"),
        (["--nodes", "1"], "--nodes"),
        (["--store", "tape"], "--store"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_started(demos: Demos, arguments: list[str], text: str) -> None:
    demo = demos.start(*arguments)
    assert demo.wait() == 2
    assert text in demo.problems
    assert "Traceback" not in demo.problems
    assert not demo.workdir.exists()


def test_what_did_not_arrive_is_explained_and_its_logs_stay(demos: Demos, large_folder: Path) -> None:
    demo = demos.start(large_folder, "--nodes", "2", "--timeout", "1")
    assert demo.wait() == 1
    assert [copy["verified"] for copy in demo.copies()] == [False]
    assert "0 of 1 copies verified" in demo.output
    logs = demo.workdir / "south" / "logs"
    assert f"logs: {logs}" in demo.output
    assert logs.is_dir()
    assert demo.processes() == []
