"""How long-running work learns that it must stop: one small object passed down, asked between steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dpn.errors import Interrupted
from dpn.runtime import THREADS, Runtime

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Cancellation:
    """Set once, from any thread, with the error that the work shall end with. Asking costs next to nothing."""

    def __init__(self, runtime: Runtime = THREADS) -> None:
        self._event = runtime.event()
        self._error: Interrupted | None = None

    def cancel(self, error: Interrupted) -> None:
        """Ask the work to stop; the first error given stays."""
        if self._error is None:
            self._error = error
        self._event.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises the error given to `cancel`, if it was called."""
        if self._event.is_set():
            raise self._error or Interrupted("cancelled")

    def wait(self, seconds: float) -> bool:
        """Sleep up to `seconds`, less if cancelled meanwhile; true if cancelled."""
        return self._event.wait(seconds)


@contextmanager
def cancelled_by_signals(error: Callable[[signal.Signals], Interrupted]) -> Iterator[Cancellation]:
    """What Ctrl-C, SIGTERM and SIGHUP cancel while this lasts: a command ends between two steps, not in one.

    The first signal counts; further ones hurry nothing. Only from the main thread.
    """
    cancellation = Cancellation()

    def stop(number: int, _frame: FrameType | None) -> None:
        cancellation.cancel(error(signal.Signals(number)))

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield cancellation
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
