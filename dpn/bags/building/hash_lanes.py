"""Hashes what is being copied beside the copying: a thread an algorithm, as far as there are cores. Where there is
one core for both, the first algorithm is hashed by who copies, while the buffer is in that core's cache."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from dpn.bags.digests import Hasher
from dpn.bags.hash_threads import Progress, Workers, take

BUFFER_BYTES = 256 << 10
"""Small enough that a buffer is still in the processor's cache when it is hashed and written: with 1 MiB copying
costs the system half as much again."""
BUFFERS = 8


class HashLanes:
    """A few threads and the buffers that they share with whoever reads. Used in a `with` block."""

    def __init__(self, algorithms: int, cores: int, progress: Progress) -> None:
        """For at most so many algorithms at once, and so many cores that are not needed elsewhere."""
        self._progress = progress
        first = Workers(0 if cores == 1 else 1, progress)
        self._lanes = [first, *(Workers(1, progress) for _ in range(1, min(algorithms, max(cores, 2))))]
        self._closing = ExitStack()
        self._lock = threading.Lock()
        self._free: queue.Queue[memoryview] = queue.LifoQueue()  # the one that is in the cache
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(BUFFER_BYTES)))

    def __enter__(self) -> Self:
        for lane in self._lanes:
            self._closing.enter_context(lane)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, trace)

    def buffer(self) -> memoryview:
        """A buffer to read into; waits for one. Raises the first error of any thread."""
        return take(self._free, self._progress)

    def hash(self, buffer: memoryview, count: int, hashers: Sequence[Hasher]) -> None:
        """Hash the first bytes of a buffer, in the order in which buffers are given; then it is free again."""
        lanes = self._lanes[: max(1, min(len(self._lanes), len(hashers)))]
        waiting = _Waiting(len(lanes))
        for at, lane in reversed([*enumerate(lanes)]):  # the first one may be ourselves
            lane.submit(partial(self._update, buffer, count, hashers[at :: len(lanes)], waiting))

    def finish(self) -> None:
        """Wait until all is hashed. Raises the first error of any thread."""
        for lane in self._lanes:
            lane.finish()

    def _update(self, buffer: memoryview, count: int, hashers: Sequence[Hasher], waiting: _Waiting) -> None:
        for hasher in hashers:
            hasher.update(buffer[:count])
        with self._lock:
            waiting.lanes -= 1
            last = waiting.lanes == 0
        if last:
            self._free.put(buffer)


class _Waiting:
    """How many lanes still need a buffer."""

    __slots__ = ("lanes",)

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
