"""How a tar is read once while its headers are walked and its files hashed: what both ways have in common.

`ParallelReader` hashes different files on different cores and jumps over large ones: the thread that hashes such
a file reads it. `StreamReader` reads from the first byte to the last, so that the SHA-256 of the whole tar comes
out of the same read; the files are hashed beside it, one core an algorithm. Either holds a few buffers of 1 MiB
a core.
"""

from __future__ import annotations

import queue
from typing import Protocol

from dpn.bags.digests import Column
from dpn.bags.hash_threads import READ_BYTES
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.headers import BLOCK_BYTES

Columns = tuple[Column, ...]

SMALLEST_WINDOW_BYTES = 64 << 10
ZEROS = bytes(READ_BYTES)


class TarReader(Protocol):
    """Gives the walk its blocks, hashes the files that the walk finds."""

    size: int

    def block(self, position: int) -> bytes: ...

    def read(self, offset: int, length: int) -> bytes: ...

    def hash_file(self, number: int, offset: int, size: int, columns: Columns) -> None:
        """Have this file's digests put into the columns, at the latest when `finish` returns."""
        ...

    def finish(self, end: int) -> bool:
        """Read and hash what is left; true if nothing but zeros follows `end`."""
        ...


def window_bytes(tar: TarFile) -> int:
    """Small tars need no large buffers."""
    return max(SMALLEST_WINDOW_BYTES, min(READ_BYTES, -(-tar.size // BLOCK_BYTES) * BLOCK_BYTES))


def free_buffers(count: int, size: int) -> queue.Queue[bytearray]:
    buffers: queue.Queue[bytearray] = queue.Queue()
    for _ in range(count):
        buffers.put(bytearray(size))
    return buffers
