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

from dpn.bags.hash_threads import Progress
from dpn.bags.tar.header_writer import HeaderMaker
from dpn.bags.tar.headers import BLOCK_BYTES, DIRECTORY_TYPE, REGULAR_TYPES, ZERO_BLOCK
from dpn.files import make_durable, sync_folder, write_all

RECORD_BYTES = 20 * BLOCK_BYTES
GATHERED_BYTES = 256 << 10
"""Of many small files: still in the processor's cache when they are put together."""
_FILE = REGULAR_TYPES[0]
_PADDINGS = [bytes(count) for count in range(BLOCK_BYTES)]
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
    """A PAX tar: owner, time and mode are fixed. Small things are gathered and written together."""

    def __init__(self, path: Path, root: str, modified_seconds: int) -> None:
        self._file = path.open("xb", buffering=0)
        self._root = root.encode() + b"/"
        self._headers = HeaderMaker(modified_seconds).headers
        self._padding = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
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
        header, padding = self._headers(self._root + name, _FILE, size), _PADDINGS[-size % BLOCK_BYTES]
        self._waiting += (header, content, padding)
        self._gathered(len(header) + size + len(padding))

    def begin_file(self, name: bytes, size: int) -> None:
        self._gather(self._headers(self._root + name, _FILE, size))
        self._padding = -size % BLOCK_BYTES

    def write(self, data: bytes | memoryview) -> None:
        self._write_gathered()
        self._write(data)

    def end_file(self) -> None:
        self._gather(bytes(self._padding))

    def add_folder(self, name: bytes) -> None:
        self._gather(self._headers(self._root + name + b"/", DIRECTORY_TYPE, 0))

    def close(self) -> None:
        self._gather(ZERO_BLOCK * 2)
        self._write_gathered()
        self._write(bytes(-self._written % RECORD_BYTES))

    @contextmanager
    def becoming_durable(self, progress: Progress) -> Iterator[None]:
        syncing = _Syncing(self._file.fileno())
        yield
        syncing.finish(progress)

    def _gather(self, data: bytes) -> None:
        self._waiting.append(data)
        self._gathered(len(data))

    def _gathered(self, count: int) -> None:
        self._waiting_bytes += count
        if self._waiting_bytes >= GATHERED_BYTES:
            self._write_gathered()

    def _write_gathered(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        write_all(self._file, data)
        self._written += len(data)


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
            write_all(self._file, data)

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
