"""Two ways to read a tar once while its headers are walked and its files are hashed on other cores.

`ParallelReader` hashes different files on different cores and jumps over large ones: the thread that hashes such
a file reads it. `StreamReader` reads from the first byte to the last, so that the SHA-256 of the whole tar comes
out of the same read; the files are hashed beside it, one core an algorithm. Either holds a few buffers of 1 MiB
a core.
"""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from dpn.bags.digests import Column, Hasher
from dpn.bags.tar_headers import BLOCK_BYTES
from dpn.bags.tar_source import TarFile
from dpn.bags.workers import READ_BYTES, Progress, Workers, take

Columns = tuple[Column, ...]

FIRST_WINDOW_BYTES = 64 << 10
"""Read to see a header after a jump; doubled as long as small files follow each other."""
LARGE_FILE_BYTES = READ_BYTES // 4
"""From here on a file that crosses the edge of a window is read by itself."""
STREAM_BUFFERS = 6
_ZEROS = bytes(READ_BYTES)


class Reader(Protocol):
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


WholePiece = tuple[int, int, int, Columns]
"""A file's number, where it begins and ends in a window, and where its digests go."""


class Piece(NamedTuple):
    """A file, or part of one, inside a window."""

    number: int
    start: int
    stop: int
    columns: Columns
    first: bool = True
    last: bool = True


class ParallelReader:
    """Files on all cores. Reads each byte once, but for less than 64 KiB beside a large file."""

    def __init__(self, tar: TarFile, threads: int, progress: Progress) -> None:
        self._tar = tar
        self._progress = progress
        self._workers = Workers(threads, progress)
        self._local = threading.local()
        self._window_bytes = _window_bytes(tar)
        self._free = _buffers(threads + 1, self._window_bytes)
        self._window = bytearray(self._window_bytes)
        self._base = 0
        self._filled = 0
        self._step = FIRST_WINDOW_BYTES // 2
        self._pieces: list[WholePiece] = []
        self.size = tar.size
        self.read = tar.read

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def block(self, position: int) -> bytes:
        start = position - self._base
        if 0 <= start <= self._filled - BLOCK_BYTES:
            return bytes(self._window[start : start + BLOCK_BYTES])
        self._move_window(position, BLOCK_BYTES)
        return bytes(self._window[: min(BLOCK_BYTES, self._filled)])

    def hash_file(self, number: int, offset: int, size: int, columns: Columns) -> None:
        start = offset - self._base
        if start + size > self._filled:
            if size >= LARGE_FILE_BYTES:
                return self._workers.submit(partial(self._hash_large, number, offset, size, columns))
            self._move_window(offset, size)
            start = 0
        self._pieces.append((number, start, start + size, columns))
        return None

    def finish(self, end: int) -> bool:
        self._flush(self._window)
        self._workers.finish()
        for chunk in self._tar.chunks(end, self.size - end):
            self._progress.tick()
            if chunk != _ZEROS[: len(chunk)]:
                return False
        return True

    def _move_window(self, position: int, needed: int) -> None:
        """Let the window begin at `position`; what it holds from there on is carried over, not read again."""
        self._progress.tick()
        old, new = self._window, take(self._free, self._progress)
        kept = self._base + self._filled - position
        if 0 <= kept <= self._filled:
            new[:kept] = old[self._filled - kept : self._filled]
            self._step = min(self._step * 2, self._window_bytes)
        else:
            kept = 0
            self._step = FIRST_WINDOW_BYTES
        self._flush(old)
        length = max(self._step, needed)
        with memoryview(new) as view:
            self._filled = kept + self._tar.read_into(view[kept:length], position + kept)
        self._window, self._base = new, position

    def _flush(self, window: bytearray) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._workers.submit(partial(self._hash_pieces, window, pieces))
        else:
            self._free.put(window)

    def _hash_pieces(self, window: bytearray, pieces: list[WholePiece]) -> None:
        done_bytes = 0
        with memoryview(window) as view:
            for number, start, stop, columns in pieces:
                data = view[start:stop]
                for column in columns:
                    column.put(number, column.new(data).digest())
                done_bytes += stop - start + BLOCK_BYTES
                data.release()
        self._free.put(window)
        self._progress.add(done_bytes, len(pieces))

    def _hash_large(self, number: int, offset: int, size: int, columns: Columns) -> None:
        hashers = [column.new() for column in columns]
        view, end = self._large_buffer(), offset + size
        while offset < end:
            count = self._tar.read_into(view[: end - offset], offset)
            for hasher in hashers:
                hasher.update(view[:count])
            offset += count
            self._progress.add(count)
        for column, hasher in zip(columns, hashers, strict=True):
            column.put(number, hasher.digest())
        self._progress.add(BLOCK_BYTES, 1)

    def _large_buffer(self) -> memoryview:
        if not hasattr(self._local, "view"):
            self._local.view = memoryview(bytearray(READ_BYTES))
        view: memoryview = self._local.view
        return view


class StreamReader:
    """The whole file in order, and its SHA-256 (`sha256`, once `finish` has returned)."""

    def __init__(self, tar: TarFile, columns: Columns, progress: Progress) -> None:
        self._tar = tar
        self._progress = progress
        self._whole = sha256()
        self._whole_lane = Workers(1, progress)
        self._lanes = [_Lane(column, progress) for column in columns]
        self._closing = ExitStack()
        self._free = _buffers(STREAM_BUFFERS, _window_bytes(tar))
        self._window = bytearray()
        self._base = 0
        self._filled = 0
        self._pieces: list[Piece] = []
        self._pending: Piece | None = None
        self.size = tar.size
        self.read = tar.read

    def __enter__(self) -> Self:
        self._closing.enter_context(self._whole_lane)
        for lane in self._lanes:
            self._closing.enter_context(lane.workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, trace)

    @property
    def sha256(self) -> str:
        return self._whole.hexdigest()

    def block(self, position: int) -> bytes:
        while position >= self._base + self._filled and self._base + self._filled < self.size:
            self._next_window()
        start = position - self._base
        return bytes(self._window[start : min(start + BLOCK_BYTES, self._filled)])

    def hash_file(self, number: int, offset: int, size: int, columns: Columns) -> None:
        start = offset - self._base
        stop = min(start + size, self._filled)
        whole = start + size <= self._filled
        self._pieces.append(Piece(number, start, stop, columns, True, whole))
        if not whole:
            self._pending = Piece(number, 0, size - (stop - start), columns, False, True)

    def finish(self, end: int) -> bool:
        zeros = True
        while True:
            start = max(end - self._base, 0)
            if start < self._filled:
                zeros = zeros and self._window[start : self._filled] == _ZEROS[: self._filled - start]
            if self._base + self._filled >= self.size:
                break
            self._next_window()
        self._flush()
        self._whole_lane.finish()
        for lane in self._lanes:
            lane.workers.finish()
        return zeros

    def _next_window(self) -> None:
        self._flush()
        window = take(self._free, self._progress)
        self._base += self._filled
        with memoryview(window) as view:
            self._filled = self._tar.read_into(view, self._base)
        self._window = window
        if self._pending is not None:
            number, _, left, columns, _, _ = self._pending
            here = min(left, self._filled)
            self._pieces.append(Piece(number, 0, here, columns, False, here == left))
            self._pending = None if here == left else Piece(number, 0, left - here, columns, False, True)

    def _flush(self) -> None:
        if not self._window:
            return
        block = _Block(self._window, self._filled, self._pieces, 1 + len(self._lanes), self._free)
        self._window, self._pieces = bytearray(), []
        self._whole_lane.submit(partial(self._hash_whole, block))
        for lane in self._lanes:
            lane.workers.submit(partial(lane.hash_pieces, block))

    def _hash_whole(self, block: _Block) -> None:
        with memoryview(block.buffer) as view:
            self._whole.update(view[: block.filled])
        self._progress.add(block.filled, sum(piece.last for piece in block.pieces))
        block.done()


def _window_bytes(tar: TarFile) -> int:
    """Small tars need no large buffers."""
    return max(FIRST_WINDOW_BYTES, min(READ_BYTES, -(-tar.size // BLOCK_BYTES) * BLOCK_BYTES))


def _buffers(count: int, size: int) -> queue.Queue[bytearray]:
    buffers: queue.Queue[bytearray] = queue.Queue()
    for _ in range(count):
        buffers.put(bytearray(size))
    return buffers


class _Block:
    """A window that several lanes hash; the last one gives the buffer back."""

    __slots__ = ("_free", "_lock", "_waiting", "buffer", "filled", "pieces")

    def __init__(
        self, buffer: bytearray, filled: int, pieces: list[Piece], lanes: int, free: queue.Queue[bytearray]
    ) -> None:
        self.buffer = buffer
        self.filled = filled
        self.pieces = pieces
        self._waiting = lanes
        self._free = free
        self._lock = threading.Lock()

    def done(self) -> None:
        with self._lock:
            self._waiting -= 1
            last = self._waiting == 0
        if last:
            self._free.put(self.buffer)


class _Lane:
    """One algorithm over all files, in their order, in a thread of its own."""

    def __init__(self, column: Column, progress: Progress) -> None:
        self.workers = Workers(1, progress)
        self._column = column
        self._current: Hasher = column.new()

    def hash_pieces(self, block: _Block) -> None:
        column = self._column
        with memoryview(block.buffer) as view:
            for number, start, stop, columns, first, last in block.pieces:
                if column not in columns:
                    continue
                if first and last:
                    column.put(number, column.new(view[start:stop]).digest())
                    continue
                if first:
                    self._current = column.new()
                self._current.update(view[start:stop])
                if last:
                    column.put(number, self._current.digest())
        block.done()
