"""How long-running work learns that it must stop: one small object passed down, asked between steps."""

from __future__ import annotations

import threading

from dpn.errors import Interrupted


class Cancellation:
    """Set once, from any thread, with the error that the work shall end with. Asking costs next to nothing."""

    def __init__(self) -> None:
        self._event = threading.Event()
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
