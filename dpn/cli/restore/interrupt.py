"""Ctrl-C and the like end a command between two steps, not in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[Cancellation]:
    """What Ctrl-C and the like cancel: what came is kept."""
    cancellation = Cancellation()

    def stop(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        cancellation.cancel(Interrupted(f"stopped by {name}: what came is kept; the same command goes on with it"))

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield cancellation
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
