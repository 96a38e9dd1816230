"""What a worker does now and then beside its stages, each chore in a thread of its own: one that hangs stops
neither another, nor claims, nor the end of the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dpn.database import DATABASE_AWAY
from dpn.errors import DpnError
from dpn.runtime import THREADS, Runtime, Work
from dpn.telemetry.logs import Log

STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Chore:
    """Something that every worker does, whoever is first: several may do it at once, and it may break off.

    The next round makes up for it.
    """

    name: str
    every_seconds: float
    run: Callable[[], None]


class ChoreThreads:
    """Does each chore at the start and then every so often, out of step with other workers."""

    def __init__(
        self, chores: Sequence[Chore], *, jitter: Callable[[], float], log: Log, runtime: Runtime = THREADS
    ) -> None:
        self._chores = chores
        self._jitter = jitter
        self._log = log
        self._runtime = runtime
        self._stopping = runtime.event()
        self._work: list[Work] = []
        self._put_off: set[str] = set()

    def start(self) -> None:
        self._work = [self._runtime.start(one.name, partial(self._keep_doing, one)) for one in self._chores]

    def stop(self) -> None:
        """Begins no chore any more; one that is still under way after a moment ends with the process."""
        self._stopping.set()
        give_up_at = time.monotonic() + STOP_SECONDS
        for work in self._work:
            work.join(max(0.0, give_up_at - time.monotonic()))

    def do(self, chore: Chore) -> None:
        """Once; a failure is told, and made up for by the next time.

        That the database or another service is away is told once, until the chore has been done again.
        """
        try:
            chore.run()
        except (DpnError, *DATABASE_AWAY) as error:
            tell = self._log.debug if chore.name in self._put_off else self._log.warning
            tell("a chore has to wait", chore=chore.name, error=str(error))
            self._put_off.add(chore.name)
        except Exception as error:  # noqa: BLE001  (it is done again; the log tells)
            self._log.error("a chore failed", chore=chore.name, error=repr(error), exc_info=error)
        else:
            self._put_off.discard(chore.name)

    def _keep_doing(self, chore: Chore) -> None:
        while not self._stopping.is_set():
            self.do(chore)
            self._stopping.wait(chore.every_seconds * (0.75 + self._jitter() / 2))
