"""Where a bag is built: straight into a tar, or into a folder. Same input, same bytes."""

# Names are bytes here, which pathlib does not have.
# ruff: noqa: PTH102, PTH103, PTH118, PTH120, PTH123

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from dpn.bags.tar_headers import BLOCK_BYTES, LARGEST_OCTAL_SIZE, ZERO_BLOCK
from dpn.bags.workers import Progress
from dpn.files import make_durable, sync_folder

RECORD_BYTES = 20 * BLOCK_BYTES
WRITE_BYTES = 1 << 20
_NAME_BYTES, _PREFIX_BYTES, _PREFIX_FIELD_BYTES = 100, 155, 167
_OWNERS = b"0000000\0" * 2
_FILE_MODE, _FOLDER_MODE = b"0000644\0" + _OWNERS, b"0000755\0" + _OWNERS
_AFTER_KIND = bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
_SUM_OF_THE_REST = sum(_AFTER_KIND) + 8 * ord(" ")
_TICK_SECONDS = 0.2


class Sink(Protocol):
    """Takes a bag's files one after the other. Names are relative to the bag. Used in a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add_file(self, name: bytes, content: bytes) -> None:
        """A small file at once."""
        ...

    def begin_file(self, name: bytes, size: int) -> None: ...

    def write(self, data: bytes | memoryview) -> None: ...

    def end_file(self) -> None: ...

    def add_folder(self, name: bytes) -> None: ...

    def close(self) -> None:
        """The bag is whole and can be read."""
        ...

    def becoming_durable(self, progress: Progress) -> AbstractContextManager[None]:
        """After this `with` block everything is on disk; raises OSError if it cannot be."""
        ...


class TarSink:
    """A PAX tar: ustar headers, an extended one only where a name or size needs it; owner, time and mode fixed."""

    def __init__(self, path: Path, root: str, modified_seconds: int) -> None:
        self._file: BinaryIO = path.open("xb", buffering=WRITE_BYTES)
        self._root = root.encode() + b"/"
        self._modified = b"%011o\0" % modified_seconds
        self._padding = 0
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # that it is on disk was made sure before, or an error is on its way
            self._file.close()

    def add_file(self, name: bytes, content: bytes) -> None:
        size = len(content)
        padded = (self._headers(self._root + name, b"0", size), content, bytes(-size % BLOCK_BYTES))
        self._put(b"".join(padded))

    def begin_file(self, name: bytes, size: int) -> None:
        self._put(self._headers(self._root + name, b"0", size))
        self._padding = -size % BLOCK_BYTES

    def write(self, data: bytes | memoryview) -> None:
        self._put(data)

    def end_file(self) -> None:
        self._put(bytes(self._padding))

    def add_folder(self, name: bytes) -> None:
        self._put(self._headers(self._root + name + b"/", b"5", 0))

    def close(self) -> None:
        self._put(ZERO_BLOCK * 2)
        self._put(bytes(-self._written % RECORD_BYTES))
        self._file.flush()

    @contextmanager
    def becoming_durable(self, progress: Progress) -> Iterator[None]:
        syncing = _Syncing(self._file.fileno())
        yield
        syncing.finish(progress)

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._written += len(data)

    def _headers(self, name: bytes, kind: bytes, size: int) -> bytes:
        records = b""
        split = _split(name)
        if split is None or not name.isascii():
            records += _record(b"path", name)
            split = (b"", name.decode("ascii", "replace").encode("ascii", "replace")[:_NAME_BYTES])
        if size > LARGEST_OCTAL_SIZE:
            records += _record(b"size", b"%d" % size)
        header = self._header(*split, kind, size)
        if not records:
            return header
        extended = self._header(b"", b"PaxHeaders/" + split[1][:80], b"x", len(records))
        return extended + records + bytes(-len(records) % BLOCK_BYTES) + header

    def _header(self, prefix: bytes, name: bytes, kind: bytes, size: int) -> bytes:
        shown_size = size if size <= LARGEST_OCTAL_SIZE else 0
        before = name.ljust(_NAME_BYTES, b"\0") + (_FOLDER_MODE if kind == b"5" else _FILE_MODE)
        numbers = b"%011o\0%s" % (shown_size, self._modified)
        after = kind + _AFTER_KIND
        checksum = sum(name) + sum(before[_NAME_BYTES:]) + sum(numbers) + kind[0] + _SUM_OF_THE_REST + sum(prefix)
        return b"%s%s%06o\0 %s%s" % (before, numbers, checksum, after, prefix.ljust(_PREFIX_FIELD_BYTES, b"\0"))


class FolderSink:
    """The bag as a folder; files appear as they are written, so build it where nobody looks yet."""

    def __init__(self, path: Path) -> None:
        self._base = os.fsencode(path)
        os.mkdir(self._base)
        self._folders = {self._base}
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add_file(self, name: bytes, content: bytes) -> None:
        self.begin_file(name, len(content))
        self.write(content)
        self.end_file()

    def begin_file(self, name: bytes, size: int) -> None:
        path = os.path.join(self._base, name)
        self._make(os.path.dirname(path))
        self._file = open(path, "xb")  # noqa: SIM115 - closed in end_file

    def write(self, data: bytes | memoryview) -> None:
        if self._file is not None:
            self._file.write(data)

    def end_file(self) -> None:
        if self._file is not None:
            make_durable(self._file)
            self._file.close()

    def add_folder(self, name: bytes) -> None:
        self._make(os.path.join(self._base, name))

    def close(self) -> None:
        """Each file is on disk since its end."""
        for folder in self._folders:
            sync_folder(Path(os.fsdecode(folder)))

    @contextmanager
    def becoming_durable(self, progress: Progress) -> Iterator[None]:
        progress.tick()
        yield

    def _make(self, folder: bytes) -> None:
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)


class _Syncing:
    """Brings a file to the disk in a thread of its own, which nobody waits for once the work is given up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._error: OSError | None = None
        self._done = threading.Event()
        threading.Thread(target=self._sync, daemon=True).start()

    def finish(self, progress: Progress) -> None:
        """Wait for it. Raises OSError if the disk refused, and what ended the work."""
        while not self._done.wait(_TICK_SECONDS):
            progress.tick()
        if self._error is not None:
            raise self._error

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._descriptor)
            self._done.set()


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name of a ustar header; None if they do not hold this name."""
    if len(name) <= _NAME_BYTES:
        return b"", name
    cut = name.find(b"/", len(name) - _NAME_BYTES - 1, _PREFIX_BYTES + 1)
    return (name[:cut], name[cut + 1 :]) if 0 < cut < len(name) - 1 else None


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record; its length counts its own digits."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d" % length + body
