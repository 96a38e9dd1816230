"""What is started dies with its parent, comes back when it is killed, and is stopped with all that it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpn.clock import SystemClock
from dpn.supervision.cron import Cron, CronJob
from dpn.supervision.running import Program, Running, stop_all
from dpn.supervision.schedule import after_a_rest_of
from dpn.supervision.supervisor import Supervisor
from tests.fixtures.demos import alive, command_lines
from tools.network.environment import clean_environment

PATIENCE_SECONDS = 10.0

HASTY_PARENTS = """
import os, signal, sys
from pathlib import Path
from dpn.supervision.running import Program, Running
for number in range(20):
    if (child := os.fork()) == 0:
        Running(Program("sleeper", ("sleep", f"{sys.argv[2]}.{number}"), dict(os.environ), Path(sys.argv[1])))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""

PARENT = """
import os, sys, time
from pathlib import Path
from dpn.supervision.running import Program, Running
print(Running(Program("sleeper", ("sleep", "1000"), dict(os.environ), Path(sys.argv[1]))).pid, flush=True)
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
        return Program(name, ("sh", "-c", f"cd '{self.folder}'; {script}"), dict(os.environ), self.log)

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
    supervisor = Supervisor(lambda ended: said.append(str(ended)))
    yield supervisor
    supervisor.drop_all()


@pytest.fixture
def cron(said: list[str]) -> Iterator[Cron]:
    cron = Cron(said.append, clock=SystemClock(), at_once=1)
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
    stop_all(running, patience_seconds=(0.5, 0.5))
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


def test_whoever_is_in_a_hurry_waits_for_no_patience(shell: Shell) -> None:
    deaf = Running(shell.program("trap '' TERM; touch deaf; while :; do sleep 0.05; done"))
    assert eventually(lambda: (shell.folder / "deaf").exists())
    stop_all([deaf], patience_seconds=(1000.0, 1000.0), hurried=lambda: 2)
    assert deaf.ending() is not None


def test_a_process_that_cannot_run_is_tried_again_with_pauses(
    shell: Shell, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.keep(shell.program("echo >> tried; exit 2"))
    assert eventually(lambda: len(said) == 2, step=supervisor.tick)
    assert "exit code 2: started again in 1 s" in said[1]
    assert len(shell.lines("tried")) == 2
    assert supervisor.kept["south/worker"].failures == 2


def test_a_program_that_the_system_cannot_start_is_tried_again_too(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    log = tmp_path / "logs" / "log"
    log.parent.touch()
    supervisor.want(Program("south/worker", ("sleep", "1000"), dict(os.environ), log))
    supervisor.tick()
    assert said[0].startswith("south/worker could not be started (")
    log.parent.unlink()
    assert eventually(lambda: supervisor.running("south/worker") is not None, step=supervisor.tick)


def test_a_process_that_is_stopped_stays_stopped(shell: Shell, supervisor: Supervisor, said: list[str]) -> None:
    running = supervisor.keep(shell.program("exec sleep 1000"))
    supervisor.drop("south/worker")
    supervisor.tick()
    assert not alive(running.pid)
    assert supervisor.running("south/worker") is None
    assert said == []


def again_and_again(program: Program, limit_seconds: float = 1000.0) -> CronJob:
    return CronJob(program, after_a_rest_of(0.05), limit_seconds=limit_seconds)


def test_cron_runs_jobs_in_turns_again_and_again_and_never_more_at_once_than_it_may(
    shell: Shell, cron: Cron
) -> None:
    alone = "[ ! -e running ] || touch overlap; touch running; sleep 0.02; rm running"
    for node in ("south", "west"):
        cron.add(again_and_again(shell.program(f"echo {node} >> ran; {alone}", node)))
    assert eventually(lambda: len(shell.lines("ran")) >= 8, step=cron.tick)
    assert shell.lines("ran")[:4] == ["south", "west", "south", "west"]
    assert not (shell.folder / "overlap").exists()


def test_a_job_that_keeps_failing_is_told_of_once_and_run_again(shell: Shell, cron: Cron, said: list[str]) -> None:
    cron.add(again_and_again(shell.program("echo >> ran; exit 1", "south/sync")))
    assert eventually(lambda: len(shell.lines("ran")) >= 3, step=cron.tick)
    assert len(said) == 1
    assert said[0].startswith("south/sync ended with exit code 1, it is run again")


def test_a_job_that_takes_too_long_is_killed(shell: Shell, cron: Cron, said: list[str]) -> None:
    cron.add(again_and_again(shell.program("echo $$ >> ran; exec sleep 1000", "sync"), limit_seconds=0.2))
    assert eventually(lambda: len(shell.lines("ran")) >= 2, step=cron.tick)
    assert "has run for more than 0.2 s: killed" in said[0]
    assert not alive(int(shell.lines("ran")[0]))
