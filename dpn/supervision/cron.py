"""What cron does for a node: programs that run to their end, each at its times, never twice at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dpn.clock import Clock
from dpn.supervision.running import Exit, Program, Running, stop_all
from dpn.supervision.schedule import Schedule

STOP_PATIENCE_SECONDS = (2.0, 2.0)
MANY = 1000


@dataclass(frozen=True)
class CronJob:
    """One line of a crontab. `spread_seconds`: up to so much later, so that not all nodes begin at once."""

    program: Program
    schedule: Schedule
    spread_seconds: float = 0.0
    limit_seconds: float = float("inf")
    """A run that takes longer is killed."""


@dataclass
class Line:
    """Where a job stands."""

    job: CronJob
    due: datetime
    running: Running | None = None
    started: datetime | None = None
    """When it began last, in this process or an earlier one."""
    ending: Exit | None = None
    """How it ended last; None before that."""


class Cron:
    """Not for several threads; `tick` it a few times a second."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        clock: Clock,
        at_once: int = MANY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`at_once`: how many jobs run at the same time, those first that are due for longest."""
        self._say = say
        self._clock = clock
        self._at_once = at_once
        self._chance = chance
        self._lines: dict[str, Line] = {}

    @property
    def lines(self) -> Mapping[str, Line]:
        """All jobs, by name."""
        return self._lines

    def add(self, job: CronJob, *, last: datetime | None = None) -> None:
        """From now on, runs the job at its times. If it has missed one since it began `last`, it is due now."""
        due = self._next(job, last or self._clock.now())
        self._lines[job.program.name] = Line(job, due, started=last)

    def remove(self, *names: str) -> None:
        """Stops these jobs if they run, and runs them no more."""
        lines = [self._lines.pop(name) for name in names if name in self._lines]
        stop_all([line.running for line in lines if line.running], patience_seconds=STOP_PATIENCE_SECONDS)

    def remove_all(self) -> None:
        """Stops everything."""
        self.remove(*self._lines)

    def tick(self) -> None:
        """Takes note of what has ended, ends what takes too long, and starts what is due."""
        for line in self._lines.values():
            if line.running is not None:
                self._look_after(line, line.running)
        now = self._clock.now()
        due = sorted((line for line in self._lines.values() if not line.running and line.due <= now), key=_due)
        running = sum(line.running is not None for line in self._lines.values())
        for line in due[: max(0, self._at_once - running)]:
            line.started = now
            try:
                line.running = Running(line.job.program)
            except OSError as error:
                self._ended(line, Exit.unstarted(error))

    def next_due(self) -> datetime | None:
        """When a job is due next that does not run; None without any."""
        return min((line.due for line in self._lines.values() if not line.running), default=None)

    def _look_after(self, line: Line, running: Running) -> None:
        limit = line.job.limit_seconds
        if running.ending() is None and time.monotonic() - running.started > limit:
            self._say(f"{line.job.program.name} (pid {running.pid}) has run for more than {limit:g} s: killed")
            running.kill()
        if (ending := running.ending()) is not None:
            self._ended(line, ending)

    def _ended(self, line: Line, ending: Exit) -> None:
        """A job that keeps failing is told of once."""
        was_well = line.ending is None or line.ending.code == 0
        line.running, line.ending, line.due = None, ending, self._next(line.job, self._clock.now())
        if ending.code != 0 and was_well:
            program = line.job.program
            self._say(
                f"{program.name} {ending}, it is run again" + (f": see {program.log}" if program.log else "")
            )

    def _next(self, job: CronJob, moment: datetime) -> datetime:
        return job.schedule(moment) + timedelta(seconds=self._chance() * job.spread_seconds)


def _due(line: Line) -> datetime:
    return line.due
