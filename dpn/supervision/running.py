"""Programs as processes of our own: each leads a process group, and dies with us if we are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dpn.errors import Misconfigured

LOG_TAIL_BYTES = 2000
LOOK_SECONDS = 0.02
LONGEST_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Program:
    """What to run. Its output is appended to `log`, or goes where ours goes."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log: Path | None = None
    if_killed: str = ""
    """What whoever kills it should know."""


@dataclass(frozen=True)
class Exit:
    """How a process ended, as Popen reports it: negative for a signal; or why there is none."""

    code: int
    problem: str = ""

    @property
    def by_signal(self) -> bool:
        return self.code < 0

    def __str__(self) -> str:
        if self.problem:
            return f"could not be started ({self.problem})"
        if not self.by_signal:
            return f"ended with exit code {self.code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"was killed by signal {-self.code}"

    @classmethod
    def unstarted(cls, error: OSError) -> Exit:
        """That of a program which the system does not start."""
        return cls(os.EX_OSERR, error.strerror or str(error))


class Running:
    """One process. The kernel kills it when the thread that started it is gone: start it from the main thread."""

    def __init__(self, program: Program) -> None:
        """Starts the program. Raises OSError, Misconfigured."""
        self.program = program
        self.started = time.monotonic()
        with ExitStack() as files:
            output = None
            if program.log is not None:
                program.log.parent.mkdir(parents=True, exist_ok=True)
                output = files.enter_context(program.log.open("ab"))
            self._process = subprocess.Popen(
                tied_to_us(*program.arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                cwd="/",
                env=dict(program.environment),
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


def stop_all(
    running: Iterable[Running], *, patience_seconds: Sequence[float], hurried: Callable[[], int] = lambda: 0
) -> None:
    """Ends all of them: SIGTERM, and again after each patience but the last (a worker then puts back what it
    runs), SIGKILL in the end. `hurried` says how many of the patiences nobody has any more.
    """
    left = list(running)
    for number, patience in enumerate(patience_seconds):
        for process in left:
            process.send(signal.SIGTERM)
        deadline, look = time.monotonic() + patience, LOOK_SECONDS
        while left := [process for process in left if process.ending() is None]:
            time.sleep(look)  # at least once: two signals in one moment would be one
            if time.monotonic() > deadline or hurried() > number:
                break
            look = min(2 * look, LONGEST_LOOK_SECONDS)
    for process in left:
        process.kill()


def tied_to_us(*arguments: str, number: signal.Signals = signal.SIGKILL) -> tuple[str, ...]:
    """Runs a program that the kernel signals when we are gone; one whose parent is gone already never begins.

    "We" are the thread that starts it. Raises Misconfigured.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Misconfigured("there is no program setpriv on this machine: install util-linux")
    only_if_we_live = 'test "$PPID" = "$0" && exec "$@"'
    tie = (setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--")
    return (*tie, "sh", "-c", only_if_we_live, str(os.getpid()), *arguments)


def log_tail(log: Path | None) -> str:
    """The end of a log, for a message; empty if there is none."""
    with suppress(OSError):
        if log is not None:
            with log.open("rb") as file:
                file.seek(-min(LOG_TAIL_BYTES, log.stat().st_size), os.SEEK_END)
                return file.read().decode(errors="replace").strip()
    return ""
