"""Stops a fetch that is cancelled, grows too large, makes no progress, or too little for its size."""

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
    first, for hours if it is large, and nothing is written meanwhile. It must come to `minimum_rate` bytes a
    second in each `stall_seconds`, and all in all be over when the largest file that may come would be: what moves
    here is more than what the peer sent. A minimum of 0 asks for neither.
    """

    def __init__(
        self,
        destination: Path,
        *,
        service: str,
        stall_seconds: float,
        minimum_rate: int,
        max_bytes: int,
        cancellation: Cancellation,
        progress: Callable[[int], None] | None,
        clock: Clock,
        io_bytes_of: Callable[[int], int] = io_bytes,
    ) -> None:
        self._destination = destination
        self._service = service
        self._stall_seconds = stall_seconds
        self._minimum_rate = minimum_rate
        self._max_bytes = max_bytes
        self._cancellation = cancellation
        self._progress = progress
        self._clock = clock
        self._io_bytes_of = io_bytes_of
        self._began_at = self._moved_at = self._window_at = clock.monotonic()
        self._window_bytes = 0
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
        if self._minimum_rate:
            self._require_rate()

    def _require_rate(self) -> None:
        now = self._clock.monotonic()
        longest_seconds = self._stall_seconds + self._max_bytes / self._minimum_rate
        if now - self._began_at >= longest_seconds:
            raise self._too_slow(f"the file did not come whole in {longest_seconds:.0f} s")
        window_seconds = now - self._window_at
        if window_seconds >= self._stall_seconds:
            if self._window_bytes < self._minimum_rate * window_seconds:
                raise self._too_slow(f"only {self._window_bytes} bytes moved in {window_seconds:.0f} s")
            self._window_at, self._window_bytes = now, 0

    def _too_slow(self, reason: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            self._service,
            f"{reason}: transfer.minimum_rate_kib asks for {self._minimum_rate // 1024} KiB a second",
        )

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
            grown_bytes = seen[0] - (self._seen or seen)[0]  # all there is to see where the kernel does not tell
            self._window_bytes += max(grown_bytes, abs(moved_bytes - self._io_bytes))
            self._moved_at, self._seen, self._io_bytes = self._clock.monotonic(), seen, moved_bytes
        return seen[0]
