"""Ctrl-C and SIGTERM, as an exception where the work is done, and not at all while everything is being stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dpn.cli.demo.errors import StopRequested

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Made by `stop_signals`."""

    def hold(self) -> None:
        """From now on these signals do nothing: what is being stopped is stopped to the end."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """The first of these signals raises StopRequested in the main thread; further ones are held."""
    signals = StopSignals()

    def stop(number: int, _frame: FrameType | None) -> None:
        signals.hold()
        raise StopRequested(signal.Signals(number))

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
