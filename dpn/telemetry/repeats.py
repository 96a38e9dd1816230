"""Log lines that come again and again, because somebody makes them, fill no disk: so many of a kind in a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

MAX_KINDS = 1000


class Repeats:
    """Lets `most` of each kind through in `seconds`, and counts the others."""

    def __init__(self, most: int, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._monotonic = monotonic
        self._kinds: dict[str, tuple[float, int]] = {}
        """Since when each is counted, and how many have come."""

    def admit(self, kind: str) -> int | None:
        """How many of this kind were left out since the last that was let through; None: this one is, too."""
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = "another"
        now = self._monotonic()
        since, count = self._kinds.get(kind, (now, 0))
        left_out = 0
        if now - since >= self._seconds:
            since, count, left_out = now, 0, max(0, count - self._most)
        self._kinds[kind] = since, count + 1
        return left_out if count < self._most else None


class BoundedWarnings(logging.Filter):
    """For a handler: of each warning or error `most` lines in `seconds`; the next one counts those left out."""

    def __init__(self, most: int, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats = Repeats(most, seconds, monotonic)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        said = record.msg
        event = said.get("event") if isinstance(said, dict) else said
        left_out = self._repeats.admit(f"{record.name} {event}")
        if left_out and isinstance(said, dict):
            record.msg = {**said, "left_out": left_out}
        elif left_out:
            record.__dict__["left_out"] = left_out
        return left_out is not None
