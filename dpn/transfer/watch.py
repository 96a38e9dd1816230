"""Stops a fetch that is cancelled, grows too large, or makes no progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import ServiceUnavailable
from dpn.process import io_bytes
from dpn.transfer.errors import SourceTooLarge

PROGRESS_BYTES = 65_536
"""Reading and writing less than this is no progress: rsync's keep-alive messages are a few bytes a minute."""


class FetchWatch:
    """Asked again and again while a fetch runs; raises what the fetch shall end with.

    Progress is a change of the destination, or that rsync reads and writes: what lies here already is compared
    first, for hours if it is large, and nothing is written meanwhile.
    """

    def __init__(
        self,
        destination: Path,
        *,
        service: str,
        stall_seconds: float,
        max_bytes: int,
        cancellation: Cancellation,
        progress: Callable[[int], None] | None,
        clock: Clock,
        io_bytes_of: Callable[[int], int] = io_bytes,
    ) -> None:
        self._destination = destination
        self._service = service
        self._stall_seconds = stall_seconds
        self._max_bytes = max_bytes
        self._cancellation = cancellation
        self._progress = progress
        self._clock = clock
        self._io_bytes_of = io_bytes_of
        self._moved_at = clock.monotonic()
        self._seen: tuple[int, int, int] | None = None
        self._io_bytes = 0

    def __call__(self, group: int) -> None:
        """Raises Interrupted, SourceTooLarge or ServiceUnavailable if the process group is to be stopped."""
        self._cancellation.check()
        size = self._look(group)
        if size > self._max_bytes:
            raise SourceTooLarge(size, self._max_bytes)
        if self._progress is not None:
            self._progress(size)
        still_seconds = self._clock.monotonic() - self._moved_at
        if still_seconds >= self._stall_seconds:
            raise ServiceUnavailable(self._service, f"nothing has come for {still_seconds:.0f} s")

    def _look(self, group: int) -> int:
        """The destination's size; notes when something last moved."""
        try:
            found = self._destination.lstat()
        except FileNotFoundError:
            seen = (0, 0, 0)
        else:
            seen = (found.st_size, found.st_mtime_ns, found.st_blocks)
        moved_bytes = self._io_bytes_of(group)
        if seen != self._seen or abs(moved_bytes - self._io_bytes) >= PROGRESS_BYTES:
            self._moved_at, self._seen, self._io_bytes = self._clock.monotonic(), seen, moved_bytes
        return seen[0]
