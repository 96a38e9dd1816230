"""Keeps programs running: whatever ends although it is wanted is started again, and it is said how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dpn.supervision.running import Exit, Program, Running, stop_all

QUICK_SECONDS = 10.0
"""A process that ends sooner than this after its start has not done what it is for."""
PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the restart of one that ended quickly, for the first time in a row, the second, and so on."""

STOP_PATIENCE_SECONDS = (2.5, 2.5)


@dataclass(frozen=True)
class Restart:
    """When to start a process again that has ended."""

    pause_seconds: float
    failures: int
    """How often in a row it ended by itself soon after its start."""


def restart_after(ending: Exit, *, ran_seconds: float, failures: int) -> Restart:
    """What to do about a process that has ended, which had failed so often in a row before.

    One that is killed is not to blame: its pauses do not grow.
    """
    if ran_seconds >= QUICK_SECONDS:
        return Restart(0.0, 0)
    if ending.by_signal:
        return Restart(PAUSES_SECONDS[0], 0)
    return Restart(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)], failures + 1)


@dataclass(frozen=True)
class UnaskedExit:
    """A process that was wanted has ended; as text: what happened to it and what follows."""

    program: Program
    pid: int | None
    ending: Exit
    restart: Restart

    def __str__(self) -> str:
        which = self.program.name if self.pid is None else f"{self.program.name} (pid {self.pid})"
        soon = f" in {self.restart.pause_seconds:g} s" if self.restart.failures > 1 else ""
        hint = f"; {self.program.if_killed}" if self.ending.by_signal and self.program.if_killed else ""
        return f"{which} {self.ending}: started again{soon}{hint}"


@dataclass
class Kept:
    """A program that is wanted. `starts` counts how often it was started."""

    program: Program
    running: Running | None = None
    starts: int = 0
    failures: int = 0
    start_at: float = field(default_factory=time.monotonic)
    ending: Exit | None = None
    """How it ended last."""


class Supervisor:
    """Runs programs for as long as they are wanted. Not for several threads; `tick` it a few times a second."""

    def __init__(self, ended: Callable[[UnaskedExit], None]) -> None:
        """`ended` is told of each process that has ended unasked, before it is started again; it may raise."""
        self._ended = ended
        self._kept: dict[str, Kept] = {}

    @property
    def kept(self) -> Mapping[str, Kept]:
        """What is wanted, by name."""
        return self._kept

    def want(self, program: Program) -> None:
        """Keeps the program running from the next tick on."""
        self.drop(program.name)
        self._kept[program.name] = Kept(program)

    def keep(self, program: Program) -> Running:
        """Starts the program now and keeps it running. Raises OSError, Misconfigured."""
        self.want(program)
        return _start(self._kept[program.name])

    def drop(
        self,
        *names: str,
        patience_seconds: Sequence[float] = STOP_PATIENCE_SECONDS,
        hurried: Callable[[], int] = lambda: 0,
    ) -> None:
        """Stops these programs as `stop_all` does and wants them no more; unknown names are no error."""
        dropped = [self._kept.pop(name) for name in names if name in self._kept]
        running = [kept.running for kept in dropped if kept.running]
        stop_all(running, patience_seconds=patience_seconds, hurried=hurried)

    def drop_all(self) -> None:
        """Stops everything."""
        self.drop(*self._kept)

    def running(self, name: str) -> Running | None:
        """The process that runs under this name now."""
        kept = self._kept.get(name)
        return kept.running if kept and kept.running and kept.running.ending() is None else None

    def tick(self) -> None:
        """Looks after every program once. Raises what `ended` raises."""
        now = time.monotonic()
        for kept in self._kept.values():
            if kept.running is not None and (ending := kept.running.ending()) is not None:
                self._note(kept, ending, kept.running.pid, now - kept.running.started)
            if kept.running is None and now >= kept.start_at:
                try:
                    _start(kept)
                except OSError as error:
                    self._note(kept, Exit.unstarted(error), None, 0.0)

    def starts_at(self) -> Iterator[float]:
        """When, by `time.monotonic`, programs that wait for it are started again."""
        return (kept.start_at for kept in self._kept.values() if kept.running is None)

    def _note(self, kept: Kept, ending: Exit, pid: int | None, ran_seconds: float) -> None:
        restart = restart_after(ending, ran_seconds=ran_seconds, failures=kept.failures)
        kept.running, kept.failures, kept.ending = None, restart.failures, ending
        kept.start_at = time.monotonic() + restart.pause_seconds
        self._ended(UnaskedExit(kept.program, pid, ending, restart))


def _start(kept: Kept) -> Running:
    kept.running = Running(kept.program)
    kept.starts += 1
    return kept.running
