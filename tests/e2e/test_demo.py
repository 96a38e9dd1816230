"""bin/demo as a whole: real bags travel between real processes, whatever is killed, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dpn.cli.demo.processes import clean_environment

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0
BAG = "a9f7cbab-b531-4eb7-b532-770f592629ba"


@dataclass
class Demo:
    """One run of the demo in `workdir`, a process of its own as bin/demo starts it."""

    workdir: Path
    process: subprocess.Popen[str]
    json_file: Path
    output: str = ""
    problems: str = ""

    def wait(self) -> int:
        """Its exit code; what it said is in `output` (stdout) and `problems` (stderr)."""
        self.output, self.problems = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.json_file.read_text(encoding="utf-8"))
        return document

    def copies(self) -> list[dict[str, Any]]:
        return [copy for bag in self.document()["bags"] for copy in bag["copies"]]

    def processes(self, what: str = "") -> list[int]:
        """The pids of what runs with this work folder on its command line."""
        return [pid for pid, line in command_lines() if f"{self.workdir}/" in line and what in line]


def command_lines() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            yield int(entry.name), line


def eventually(condition: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Demos:
    """Starts demos in folders of their own, and makes sure that they end with the test."""

    folder: Path
    started: list[Demo] = field(default_factory=list)

    def start(self, *arguments: str | Path, name: str = "network") -> Demo:
        workdir = self.folder / name
        json_file = self.folder / f"{name}.json"
        command = (
            sys.executable,
            "-P",
            "-m",
            "dpn.cli.demo",
            *("--workdir", str(workdir), "--json", str(json_file), "--timeout", str(PATIENCE_SECONDS - 30)),
            *map(str, arguments),
        )
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(os.environ) | {"DPN_STORE__URL": "s3://not-ours", "DPN_CONFIG": "/nowhere"},
        )
        demo = Demo(workdir, process, json_file)
        self.started.append(demo)
        return demo

    def run(self, *arguments: str | Path) -> Demo:
        """A whole run that must go well."""
        demo = self.start(*arguments)
        assert demo.wait() == 0, f"{demo.output}\n{demo.problems}"
        return demo


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Demos]:
    demos = Demos(tmp_path)
    yield demos
    for demo in demos.started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.wait()


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a deposit"
    folder.mkdir()
    (folder / "Übersicht.txt").write_text("content", encoding="utf-8")
    return folder


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    """Large enough that every stage can be met while it runs."""
    folder = tmp_path / "a large deposit"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.raw").write_bytes(os.urandom(40_000_000))
    return folder


@pytest.fixture
def real_bags(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "dpn-bags").glob("*.tar"))


def expect_verified(demo: Demo, tars: Sequence[Path], *, nodes: Sequence[str]) -> None:
    """The document says so, and what lies in the stores of a kept file demo is what was deposited."""
    document = demo.document()
    assert document["items"] == {"success": len(tars) * len(nodes), "failed": 0}
    expected = {tar.stem: hashlib.sha256(tar.read_bytes()).hexdigest() for tar in tars}
    assert {bag["uuid"] for bag in document["bags"]} == expected.keys()
    for bag in document["bags"]:
        assert [copy["node"] for copy in bag["copies"]] == list(nodes)
        for copy in bag["copies"]:
            assert (copy["verified"], copy["sha256"]) == (True, expected[bag["uuid"]])
            assert copy["bytes"] == bag["size"]


def test_real_bags_arrive_at_every_other_node_and_nothing_is_left_running(
    demos: Demos, real_bags: list[Path]
) -> None:
    demo = demos.run(*real_bags, "--keep")
    expect_verified(demo, real_bags, nodes=("south", "west"))
    for copy in demo.copies():
        path = Path(copy["url"].removeprefix("file://"))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == copy["sha256"]
    assert f"{2 * len(real_bags)} of {2 * len(real_bags)} copies verified" in demo.output
    assert demo.processes() == []


def test_without_a_terminal_only_the_result_is_on_stdout(demos: Demos, small_folder: Path) -> None:
    demo = demos.run(small_folder, "--nodes", "2")
    verified, last = demo.output.splitlines()
    assert verified.startswith("verified  south")
    assert last.startswith("1 of 1 copies verified")
    assert "store" in demo.problems
    assert not demo.workdir.exists()


def test_a_kept_folder_answers_the_operators_commands_afterwards(demos: Demos, small_folder: Path) -> None:
    demo = demos.run(small_folder, "--nodes", "2", "--keep")
    settings = demo.workdir / "south" / "node.toml"
    command = (sys.executable, "-P", "-m", "dpn.cli.main", "--config", settings, "items", "--json")
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


@pytest.mark.parametrize("what", ["serve", "rsyncd.conf"])
def test_a_server_that_is_killed_comes_back_and_the_bags_arrive(
    demos: Demos, large_folder: Path, what: str
) -> None:
    demo = demos.start(large_folder, "--nodes", "2")
    assert eventually(lambda: _running(demo, "south") == "copy")
    for pid in demo.processes(what):
        os.kill(pid, signal.SIGKILL)
    assert demo.wait() == 0, demo.problems
    assert "was killed by SIGKILL: started again" in demo.problems


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_stopped_stops_everything_at_once(
    demos: Demos, large_folder: Path, number: signal.Signals, code: int
) -> None:
    demo = demos.start(large_folder)
    assert eventually(lambda: _running(demo, "south") is not None)
    demo.process.send_signal(number)
    assert demo.wait() == code
    assert demo.processes() == []
    assert not demo.workdir.exists()


def test_a_demo_that_is_killed_leaves_nothing_running(demos: Demos, large_folder: Path) -> None:
    demo = demos.start(large_folder)
    assert eventually(lambda: _running(demo, "south") is not None)
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


def _running(demo: Demo, node: str) -> str | None:
    """The stage that the node's first item is running now, asked as an operator would but faster."""
    database = demo.workdir / node / "node.db"
    if not database.exists():
        return None
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            row = connection.execute("SELECT stage FROM work_items WHERE status = 'running' LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            return None
    return None if row is None else str(row[0])
