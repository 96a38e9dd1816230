"""What cron does at a real node: `dpn sync`, then `dpn queue`, again and again, for every node of the network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tools.network.processes import Exit, Program, Running, stop_all

EVERY_SECONDS = 2.0
"""Rest between two rounds of one node."""

AT_ONCE = 2
"""How many nodes' jobs run at the same time: each is a Python that starts, and a demo has few processors."""

STOP_PATIENCE_SECONDS = 4.0


@dataclass
class _Line:
    """One node's line of the crontab."""

    programs: Sequence[Program]
    due_at: float
    left: deque[Program] = field(default_factory=deque)
    running: Running | None = None
    failing: set[str] = field(default_factory=set)


class Cron:
    """Not for several threads; `tick` it a few times a second."""

    def __init__(
        self, say: Callable[[str], None], *, every_seconds: float = EVERY_SECONDS, at_once: int = AT_ONCE
    ) -> None:
        self._say = say
        self._every_seconds = every_seconds
        self._at_once = at_once
        self._lines: dict[str, _Line] = {}

    def add(self, node: str, programs: Sequence[Program]) -> None:
        """From now on, runs these programs one after the other for `node`, rests, and begins again."""
        self._lines[node] = _Line(programs, due_at=time.monotonic())

    def remove(self, *nodes: str) -> None:
        """Stops what runs for these nodes, and runs nothing more for them."""
        lines = [self._lines.pop(node) for node in nodes if node in self._lines]
        stop_all([line.running for line in lines if line.running], patience_seconds=STOP_PATIENCE_SECONDS)

    def remove_all(self) -> None:
        """Stops everything."""
        self.remove(*self._lines)

    def tick(self) -> None:
        """Takes note of what has ended and starts what is due. Raises OSError."""
        now = time.monotonic()
        for line in self._lines.values():
            if line.running is not None and (ending := line.running.ending()) is not None:
                self._ended(line, line.running.program, ending, now)
        for line in self._waiting(now):
            if sum(other.running is not None for other in self._lines.values()) >= self._at_once:
                return
            line.left = line.left or deque(line.programs)
            line.running = Running(line.left.popleft())

    def _waiting(self, now: float) -> list[_Line]:
        """The lines that could start something, longest due first."""
        due = [line for line in self._lines.values() if line.running is None and (line.left or line.due_at <= now)]
        return sorted(due, key=lambda line: line.due_at)

    def _ended(self, line: _Line, program: Program, ending: Exit, now: float) -> None:
        line.running = None
        if not line.left:
            line.due_at = now + self._every_seconds
        if ending.code == 0:
            line.failing.discard(program.name)
        elif program.name not in line.failing:
            line.failing.add(program.name)
            self._say(f"{program.name} {ending}, it is run again: see {program.log}")
