"""Ctrl-C and SIGTERM as a Cancellation: the demo stops between two steps, never in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dpn.cancellation import Cancellation
from tools.network.errors import StopRequested

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals() -> Iterator[Cancellation]:
    """What these signals cancel, with StopRequested. The first one counts; further ones hurry nothing."""
    cancellation = Cancellation()

    def stop(number: int, _frame: FrameType | None) -> None:
        cancellation.cancel(StopRequested(signal.Signals(number)))

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield cancellation
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
