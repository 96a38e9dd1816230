"""Keeps programs running: whatever ends although it is wanted is started again, and it is said how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.network.errors import Broken
from tools.network.processes import Exit, Program, Running, log_tail, stop_all

QUICK_SECONDS = 10.0
"""A process that ends by itself sooner than this after its start counts as one that cannot run."""
GIVE_UP_AFTER = 5
"""So many in a row, and the network is broken. Being killed never counts: that is somebody's experiment."""

PAUSES_SECONDS = (0.0, 0.5, 1.0, 2.0)
"""Before the first restart after a good run, the second in a row, and so on."""

STOP_PATIENCE_SECONDS = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Restart:
    """When to start a process again that has ended."""

    pause_seconds: float
    failures: int
    """How often in a row it ended by itself soon after its start; `GIVE_UP_AFTER` is too often."""


def restart_after(ending: Exit, *, ran_seconds: float, failures: int) -> Restart:
    """What to do about a process that has ended, which had failed so often in a row before."""
    failures = 0 if ending.by_signal or ran_seconds >= QUICK_SECONDS else failures + 1
    return Restart(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)], failures)


@dataclass
class _Kept:
    program: Program
    running: Running | None = None
    failures: int = 0
    start_at: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs programs for as long as they are wanted. Not for several threads; `tick` it a few times a second."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._kept: dict[str, _Kept] = {}

    def keep(self, program: Program) -> Running:
        """Starts the program and keeps it running from now on. Raises OSError."""
        self.drop(program.name)
        kept = self._kept[program.name] = _Kept(program)
        kept.running = Running(program)
        return kept.running

    def drop(self, *names: str, patience_seconds: float = STOP_PATIENCE_SECONDS) -> None:
        """Stops these programs and wants them no more; names that it does not know are no error."""
        dropped = [self._kept.pop(name) for name in names if name in self._kept]
        stop_all([kept.running for kept in dropped if kept.running], patience_seconds=patience_seconds)

    def drop_all(self) -> None:
        """Stops everything."""
        self.drop(*self._kept)

    def running(self, name: str) -> Running | None:
        """The process that runs under this name now."""
        kept = self._kept.get(name)
        return kept.running if kept and kept.running and kept.running.ending() is None else None

    def tick(self) -> None:
        """Looks after every program once. Raises Broken for one that keeps failing, OSError."""
        now = time.monotonic()
        for kept in self._kept.values():
            if kept.running is not None and (ending := kept.running.ending()) is not None:
                self._ended(kept, kept.running, ending, now)
            if kept.running is None and now >= kept.start_at:
                kept.running = Running(kept.program)

    def _ended(self, kept: _Kept, running: Running, ending: Exit, now: float) -> None:
        name, log = kept.program.name, kept.program.log
        restart = restart_after(ending, ran_seconds=now - running.started, failures=kept.failures)
        kept.running, kept.failures, kept.start_at = None, restart.failures, now + restart.pause_seconds
        if restart.failures >= GIVE_UP_AFTER:
            raise Broken(f"{name} {ending}, {restart.failures} times in a row; the end of {log}:\n{log_tail(log)}")
        hint = f"; {kept.program.if_killed}" if ending.by_signal and kept.program.if_killed else ""
        self._say(f"{name} (pid {running.pid}) {ending}: started again{hint}")
