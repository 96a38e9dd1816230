"""What the demo starts dies with it, comes back when it is killed, and is stopped with all that it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.demos import alive, command_lines
from tools.network.cron import Cron
from tools.network.errors import Broken
from tools.network.processes import Program, Running, clean_environment, stop_all
from tools.network.supervisor import GIVE_UP_AFTER, Supervisor
from tools.services.ports import free_ports, is_free

PATIENCE_SECONDS = 10.0

HASTY_PARENTS = """
import os, signal, sys
from pathlib import Path
from tools.network.processes import Program, Running
for number in range(20):
    if (child := os.fork()) == 0:
        Running(Program("sleeper", ("sleep", f"{sys.argv[2]}.{number}"), Path(sys.argv[1])))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""

PARENT = """
import sys, time
from pathlib import Path
from tools.network.processes import Program, Running
print(Running(Program("sleeper", ("sleep", "1000"), Path(sys.argv[1]))).pid, flush=True)
time.sleep(1000)
"""


def eventually(condition: Callable[[], bool], *, step: Callable[[], None] = lambda: None) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        step()
        if condition():
            return True
        time.sleep(0.01)
    return False


class Shell:
    """Programs that are shell scripts, which write into files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"

    def program(self, script: str, name: str = "south/worker") -> Program:
        return Program(name, ("sh", "-c", f"cd '{self.folder}'; {script}"), self.log)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text(encoding="ascii").splitlines() if path.exists() else []


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append)
    yield supervisor
    supervisor.drop_all()


@pytest.fixture
def cron(said: list[str]) -> Iterator[Cron]:
    cron = Cron(said.append, every_seconds=0.05, at_once=1)
    yield cron
    cron.remove_all()


def test_a_process_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        (sys.executable, "-P", "-c", PARENT, str(tmp_path / "log")),
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(os.environ),
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        child = int(output.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    assert eventually(lambda: not alive(child))


def test_a_process_whose_parent_is_gone_before_it_is_tied_to_it_does_not_begin(tmp_path: Path) -> None:
    mark = f"1{os.getpid()}"
    subprocess.run(
        (sys.executable, "-P", "-c", HASTY_PARENTS, str(tmp_path / "log"), mark),
        env=clean_environment(os.environ),
        check=True,
    )
    assert eventually(lambda: not any(line.startswith(f"sleep {mark}.") for _, line in command_lines()))


def test_a_process_that_ends_takes_its_whole_group_with_it(shell: Shell) -> None:
    running = Running(shell.program("sleep 1000 & echo $! > child; exec sleep 1000"))
    assert eventually(lambda: bool(shell.lines("child")))
    child = int(shell.lines("child")[0])
    os.kill(running.pid, signal.SIGKILL)
    assert str(running.wait(PATIENCE_SECONDS)) == "was killed by SIGKILL"
    assert eventually(lambda: not alive(child))


def test_a_worker_that_finishes_what_it_runs_is_told_twice_and_then_killed(shell: Shell) -> None:
    twice = shell.program(
        "trap 'echo told >> told; [ $(wc -l < told) = 1 ] || exit 0' TERM; touch up; while :; do sleep 0.05; done"
    )
    deaf = shell.program("trap '' TERM; touch deaf; while :; do sleep 0.05; done")
    running = [Running(twice), Running(deaf)]
    assert eventually(lambda: (shell.folder / "up").exists() and (shell.folder / "deaf").exists())
    stop_all(running, patience_seconds=1.0)
    assert [process.ending() for process in running] != [None, None]
    assert (running[0].ending().code, running[1].ending().code) == (0, -signal.SIGKILL)  # type: ignore[union-attr]
    assert len(shell.lines("told")) == 2


def test_a_killed_process_comes_back_and_it_is_said_how_it_ended(
    shell: Shell, supervisor: Supervisor, said: list[str]
) -> None:
    first = supervisor.keep(shell.program("exec sleep 1000"))
    first.send(signal.SIGKILL)
    assert eventually(lambda: bool(said), step=supervisor.tick)
    assert said == [f"south/worker (pid {first.pid}) was killed by SIGKILL: started again"]
    assert eventually(lambda: supervisor.running("south/worker") is not None, step=supervisor.tick)
    assert supervisor.running("south/worker") is not first


def test_a_process_that_cannot_run_breaks_the_network_with_the_end_of_its_log(
    shell: Shell, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.keep(shell.program("echo cannot listen; exit 2"))
    with pytest.raises(Broken, match=r"(?s)exit code 2, 5 times in a row.*cannot listen"):
        eventually(lambda: False, step=supervisor.tick)
    assert len(said) == GIVE_UP_AFTER - 1


def test_a_process_that_is_stopped_stays_stopped(shell: Shell, supervisor: Supervisor, said: list[str]) -> None:
    running = supervisor.keep(shell.program("exec sleep 1000"))
    supervisor.drop("south/worker")
    supervisor.tick()
    assert not alive(running.pid)
    assert supervisor.running("south/worker") is None
    assert said == []


def test_cron_runs_a_nodes_jobs_in_order_again_and_again_and_never_twice_at_once(shell: Shell, cron: Cron) -> None:
    alone = "[ ! -e running ] || touch overlap; touch running; sleep 0.02; rm running"
    for node in ("south", "west"):
        names = [f"{node} {job}" for job in ("sync", "queue")]
        cron.add(node, [shell.program(f"echo {name} >> ran; {alone}", name) for name in names])
    assert eventually(lambda: len(shell.lines("ran")) >= 12, step=cron.tick)
    of_south = [line for line in shell.lines("ran") if line.startswith("south")]
    assert of_south[:4] == ["south sync", "south queue", "south sync", "south queue"]
    assert len(of_south) >= 4
    assert not (shell.folder / "overlap").exists()


def test_a_job_that_keeps_failing_is_told_of_once_and_run_again(shell: Shell, cron: Cron, said: list[str]) -> None:
    cron.add("south", [shell.program("echo >> ran; exit 1", "south/dpn_sync")])
    assert eventually(lambda: len(shell.lines("ran")) >= 3, step=cron.tick)
    assert len(said) == 1
    assert said[0].startswith("south/dpn_sync ended with exit code 1, it is run again")


def test_free_ports_are_free_and_all_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)
