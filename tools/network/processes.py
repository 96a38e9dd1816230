"""Real processes of our own: each leads a process group, writes to a log, and dies with us if we are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tools.network.errors import Unusable

LOG_TAIL_BYTES = 2000
LOOK_SECONDS = 0.02

FOREIGN_PREFIXES = ("DPN_", "AWS_", "RSYNC_")
FOREIGN_SUFFIXES = ("_PROXY",)
"""Variables of our own environment that would steer a node from outside its settings file."""


@dataclass(frozen=True)
class Program:
    """What to run. `name` is unique in its network, e.g. `south/worker`; its output is appended to `log`."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    if_killed: str = ""
    """What whoever kills it should know."""


@dataclass(frozen=True)
class Exit:
    """How a process ended, as Popen reports it: negative for a signal."""

    code: int

    @property
    def by_signal(self) -> bool:
        return self.code < 0

    def __str__(self) -> str:
        if not self.by_signal:
            return f"ended with exit code {self.code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"was killed by signal {-self.code}"


class Running:
    """One process. The kernel kills it when the thread that started it is gone: start it from the main thread."""

    def __init__(self, program: Program) -> None:
        """Starts the program. Raises OSError."""
        self.program = program
        self.started = time.monotonic()
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as output:
            self._process = subprocess.Popen(
                tied_to_us(*program.arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=clean_environment(os.environ),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ending(self) -> Exit | None:
        """How it ended, or None while it runs. Whatever is left of its group ends with it."""
        if self._process.returncode is None and self._has_ended():
            self._kill_group()  # before it is reaped: until then this number can be no other group's
            self._process.wait()
        return None if self._process.returncode is None else Exit(self._process.returncode)

    def wait(self, timeout_seconds: float) -> Exit:
        """Waits for its end. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_seconds
        while (ending := self.ending()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.program.name} still runs after {timeout_seconds} s")
            time.sleep(LOOK_SECONDS)
        return ending

    def send(self, number: signal.Signals) -> None:
        """Signals the process itself, unless it has ended."""
        if self.ending() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it with its whole group and waits until it is gone."""
        if self.ending() is None:
            self._kill_group()
            self._process.wait()

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def stop_all(running: Iterable[Running], *, patience_seconds: float) -> None:
    """Ends all of them: SIGTERM, again after half the patience (a worker then puts back what it runs), SIGKILL."""
    left = list(running)
    for _ in range(2):
        for process in left:
            process.send(signal.SIGTERM)
        left = _still_running(left, patience_seconds / 2)
    for process in left:
        process.kill()


def tied_to_us(*arguments: str, number: signal.Signals = signal.SIGKILL) -> tuple[str, ...]:
    """Runs a program that the kernel signals when we are gone; one whose parent is gone already never begins.

    "We" are the thread that starts it.
    """
    only_if_we_live = 'test "$PPID" = "$0" && exec "$@"'
    tie = (setpriv(), "--pdeathsig", number.name.removeprefix("SIG"), "--")
    return (*tie, "sh", "-c", only_if_we_live, str(os.getpid()), *arguments)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what could steer a node, and with this very code to be found by Python."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(FOREIGN_PREFIXES) and not name.upper().endswith(FOREIGN_SUFFIXES)
    }
    paths = [str(checkout()), *filter(None, [environment.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def checkout() -> Path:
    """The folder that holds the packages dpn, workers and models."""
    return Path(__file__).resolve().parents[2]


def setpriv() -> str:
    """The program that binds a process's life to ours. Raises Unusable."""
    return find_program("setpriv", "util-linux")


def find_program(name: str, package: str) -> str:
    """Where a program is. Raises Unusable."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    if found is None:
        raise Unusable(f"there is no program {name} on this machine: install {package}")
    return found


def log_tail(log: Path) -> str:
    """The end of a log, for a message; empty if there is none."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(-min(LOG_TAIL_BYTES, log.stat().st_size), os.SEEK_END)
        return file.read().decode(errors="replace").strip()
    return ""


def _still_running(processes: list[Running], patience_seconds: float) -> list[Running]:
    deadline = time.monotonic() + patience_seconds
    left = processes
    while left and time.monotonic() < deadline:
        left = [process for process in left if process.ending() is None]
        if left:
            time.sleep(LOOK_SECONDS)
    return left
