"""The staged file that is stored: read in small buffers, never held in memory, never past its first size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpn.s3.plan import Part
from dpn.storage.errors import SourceUnreadable, StagedChanged
from dpn.storage.stored_object import READ_BYTES

AHEAD_BYTES = 16 * 1024 * 1024
"""How much the kernel is asked to read ahead at a time, for each part being read: so much that a disk that turns
loses little where several parts are read at once. It lies in the page cache, not in our memory."""


class Source:
    """An open staged file. Several threads may read it at once: every read names its offset."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def buffers(self, part: Part, check: Callable[[], None]) -> Iterator[memoryview]:
        """The part's bytes in buffers of up to 1 MiB, each valid until the next; `check` is called before each.

        While the caller is busy with some, the disk reads those that come next.
        """
        whole = memoryview(bytearray(min(READ_BYTES, max(1, part.size))))
        done = ahead = 0
        while done < part.size:
            check()
            while ahead < min(part.size, done + AHEAD_BYTES):
                self._read_ahead(part.offset + ahead, min(AHEAD_BYTES, part.size - ahead))
                ahead += AHEAD_BYTES
            view = whole[: part.size - done]
            with _unreadable(self.path):
                got = os.preadv(self._descriptor, [view], part.offset + done)
            if got == 0:
                raise self._shrank(part.offset + done)
            yield view[:got]
            done += got

    def read(self, offset: int, size: int) -> bytes:
        """Between one and `size` bytes at `offset`."""
        with _unreadable(self.path):
            data = os.pread(self._descriptor, size, offset)
        if not data:
            raise self._shrank(offset)
        return data

    def leave_cache(self) -> None:
        """Lets the kernel forget what it keeps of the file, so that the next read comes from the disk."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _read_ahead(self, offset: int, size: int) -> None:
        with suppress(OSError):  # advice: whether the disk fails, reading tells
            os.posix_fadvise(self._descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def _shrank(self, offset: int) -> StagedChanged:
        return StagedChanged(
            f"{self.path.name} ends at byte {offset}, it had {self.size} when it was opened: it is fetched again"
        )


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """A staged file open for reading. Raises SourceUnreadable, StagedChanged (it is no regular file)."""
    # Non-blocking, so that a fifo put there cannot hold the worker; no effect on regular files.
    with _unreadable(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StagedChanged(f"{path.name} is not a regular file: it is fetched again")
        yield Source(path, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnreadable(error.errno, error.strerror, str(path)) from error
