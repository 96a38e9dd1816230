"""The staged file that is stored: read in small buffers, never held in memory, never past its first size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpn.s3.plan import Part
from dpn.storage.errors import SourceUnreadable, StagedChanged
from dpn.storage.stored_object import READ_BYTES

SEND_BYTES = 256 * 1024
"""How much goes to the socket at a time: HTTP clients ask for 16 KiB, which costs more in calls than in copies."""


class Source:
    """An open staged file. Several threads may read it at once: every read names its offset."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def buffers(self, part: Part, check: Callable[[], None]) -> Iterator[memoryview]:
        """The part's bytes in buffers of up to 1 MiB, each valid until the next; `check` is called before each."""
        whole = memoryview(bytearray(min(READ_BYTES, max(1, part.size))))
        done = 0
        while done < part.size:
            check()
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


class SliceBody:
    """One part of a source as the body of a request: a seekable file of its own.

    `check` is called before every read, so that raising from it breaks the request off between two buffers. HTTP
    clients wrap what a body raises, or take it for the connection's failure: `failure` keeps it as it was.
    """

    def __init__(self, source: Source, part: Part, check: Callable[[], None]) -> None:
        self._source = source
        self._part = part
        self._check = check
        self._position = 0
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes; up to SEND_BYTES even when fewer are asked for, which senders take gladly."""
        try:
            self._check()
            return self._next(size)
        except Exception as error:
            self.failure = error
            raise

    def _next(self, size: int) -> bytes:
        left = self._part.size - self._position
        if left <= 0:
            return b""
        wanted = left if size < 0 else min(left, max(size, SEND_BYTES))
        data = self._source.read(self._part.offset + self._position, wanted)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position
