"""What a bag is built of: files, each with its name in the bag, opened once, and what is claimed of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from dpn.bags.errors import BagChanged

Digests = Mapping[str, bytes]


class Claims(NamedTuple):
    """What somebody says of a file: it is held against what was read. Digests by algorithm, in hexadecimal."""

    size: int | None = None
    digests: Mapping[str, str] = {}


NO_CLAIMS = Claims()
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Opened(Protocol):
    """A file's content, open to be read once from its begin to its end."""

    @property
    def size(self) -> int:
        """Its bytes, as it was when it was opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read_into(self, view: memoryview) -> int:
        """The next bytes; none only at the end of the file."""
        ...

    def is_unchanged(self) -> bool:
        """Whether the file, read to its size, ends there and was not written to since it was opened."""
        ...


class Content(Protocol):
    """Where a file's bytes come from."""

    @property
    def where(self) -> str:
        """How an operator finds it."""
        ...

    def open(self) -> Opened:
        """Raises OSError, BagChanged (it is no longer what it was when it was listed)."""
        ...

    def take(self, most_bytes: int) -> bytes | Opened:
        """All of it, if it has no more bytes than that; else it is open. Raises as `open`, and BagChanged if it
        was written to while it was read."""
        ...


class Entry(NamedTuple):
    """A file of a bag; without content, a folder with nothing in it.

    `name` is relative to the bag: `data/…`, or a further tag file's `<name>-tags/…`. `algorithms` are computed
    beside those of the bag's manifests, and `deliver` is handed their digests once the file was read.
    """

    name: bytes
    content: Content | None
    claims: Claims = NO_CLAIMS
    algorithms: tuple[str, ...] = ()
    deliver: Callable[[Digests], None] | None = None


class FileContent:
    """A file on disk, of the size that it was listed with, if that is known. No link is followed, no pipe waited
    for. `compared_later`: whoever made this compares the file with `opened_as` himself, when all were read."""

    __slots__ = ("_compared_later", "_path", "_size", "opened_as")

    def __init__(self, path: bytes, size: int | None = None, *, compared_later: bool = False) -> None:
        self._path = path
        self._size = size
        self._compared_later = compared_later
        self.opened_as: tuple[int, int] | None = None
        """Its size and when it was changed last, in nanoseconds; None until it was opened."""

    @property
    def where(self) -> str:
        return os.fsdecode(self._path)

    def open(self) -> Opened:
        return _OpenFile(*self._open())

    def take(self, most_bytes: int) -> bytes | Opened:
        fd, status = self._open()
        size = status.st_size
        if size > most_bytes:
            return _OpenFile(fd, status)
        try:
            data = os.read(fd, size + 1)  # one more than there should be
            now = status if self._compared_later else os.fstat(fd)
        finally:
            os.close(fd)
        if len(data) != size or now.st_mtime_ns != status.st_mtime_ns or now.st_size != size:
            raise changed(self.where)
        return data

    def _open(self) -> tuple[int, os.stat_result]:
        try:
            fd = os.open(self._path, _READING)
        except (FileNotFoundError, NotADirectoryError):
            raise changed(self.where) from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or self._size not in (None, status.st_size):
            os.close(fd)
            raise changed(self.where)
        self.opened_as = status.st_size, status.st_mtime_ns
        return fd, status


class _OpenFile:
    __slots__ = ("_fd", "_status", "size")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self._fd = fd
        self._status = status
        self.size = status.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read_into(self, view: memoryview) -> int:
        return os.readv(self._fd, [view])

    def is_unchanged(self) -> bool:
        now = os.fstat(self._fd)
        return now.st_mtime_ns == self._status.st_mtime_ns and now.st_size == self.size


class SliceContent:
    """A part of an open file: a member of a tar, read where it lies. The owner of the descriptor keeps it open
    and asks in the end whether the file changed."""

    __slots__ = ("_fd", "_offset", "_size", "_where")

    def __init__(self, fd: int, offset: int, size: int, where: str) -> None:
        self._fd = fd
        self._offset = offset
        self._size = size
        self._where = where

    @property
    def where(self) -> str:
        return self._where

    def open(self) -> Opened:
        return _OpenSlice(self._fd, self._offset, self._size)

    def take(self, most_bytes: int) -> bytes | Opened:
        if self._size > most_bytes:
            return self.open()
        data = os.pread(self._fd, self._size, self._offset)
        if len(data) != self._size:
            raise changed(self._where)
        return data


class _OpenSlice:
    __slots__ = ("_end", "_fd", "_position", "size")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._position = offset
        self._end = offset + size
        self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The descriptor is not ours."""

    def read_into(self, view: memoryview) -> int:
        count = os.preadv(self._fd, [view[: self._end - self._position]], self._position)
        self._position += count
        return count

    def is_unchanged(self) -> bool:
        return True


def changed(where: str) -> BagChanged:
    """The error for a source that is not what it was."""
    return BagChanged(f"{where} changed while it was being read: try again when it is at rest")
