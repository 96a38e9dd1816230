"""Reads a tar from its first byte to its last, hashing the whole and the files in it at once."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from types import TracebackType
from typing import Self

from dpn.bags.digests import Column, Hasher
from dpn.bags.hash_threads import Progress, Workers, take
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.headers import BLOCK_BYTES
from dpn.bags.tar.reader import ZEROS, Columns, free_buffers, window_bytes

STREAM_BUFFERS = 6


Piece = tuple[int, int, int, Columns, bool, bool]
"""A file or part of one: its number, where it begins and ends in a window, where its digests go; whether this is
its first part, and its last."""


class StreamReader:
    """The whole file in order, and its SHA-256 (`sha256`, once `finish` has returned)."""

    def __init__(self, tar: TarFile, columns: Columns, threads: int, progress: Progress) -> None:
        """One thread: who reads hashes, too; more: one each for the whole and for every column."""
        self._tar = tar
        self._progress = progress
        self._whole = sha256()
        self._whole_lane = Workers(min(threads - 1, 1), progress)
        self._lanes = [_Lane(column, min(threads - 1, 1), progress) for column in columns]
        self._closing = ExitStack()
        self._free = free_buffers(STREAM_BUFFERS if threads > 1 else 1, window_bytes(tar))
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
        start = position - self._base
        if start >= self._filled:
            start = self._advance_to(position)
        stop = start + BLOCK_BYTES
        return bytes(self._window[start : stop if stop < self._filled else self._filled])

    def hash_file(self, number: int, offset: int, size: int, columns: Columns) -> None:
        start = offset - self._base
        stop = start + size
        if stop <= self._filled:
            self._pieces.append((number, start, stop, columns, True, True))
        else:
            stop = self._filled
            self._pieces.append((number, start, stop, columns, True, False))
            self._pending = (number, 0, size - (stop - start), columns, False, True)

    def finish(self, end: int) -> bool:
        zeros = True
        while True:
            start = max(end - self._base, 0)
            if start < self._filled:
                zeros = zeros and self._window[start : self._filled] == ZEROS[: self._filled - start]
            if self._base + self._filled >= self.size:
                break
            self._next_window()
        self._flush()
        self._whole_lane.finish()
        for lane in self._lanes:
            lane.workers.finish()
        return zeros

    def _advance_to(self, position: int) -> int:
        """Where in a window the position lies, if the file has it."""
        while position >= self._base + self._filled and self._base + self._filled < self.size:
            self._next_window()
        return position - self._base

    def _next_window(self) -> None:
        self._flush()
        window = take(self._free, self._progress)
        self._base += self._filled
        with memoryview(window) as view:
            self._filled = self._tar.read_into(view, self._base)
        self.size = self._tar.size  # of a tar that grew it is known only now
        self._window = window
        if self._pending is not None:
            number, _, left, columns, _, _ = self._pending
            here = min(left, self._filled)
            self._pieces.append((number, 0, here, columns, False, here == left))
            self._pending = None if here == left else (number, 0, left - here, columns, False, True)

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
        self._progress.add(block.filled, sum(last for *_, last in block.pieces))
        block.done()


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

    def __init__(self, column: Column, threads: int, progress: Progress) -> None:
        self.workers = Workers(threads, progress)
        self._column = column
        self._current: Hasher = column.new()

    def hash_pieces(self, block: _Block) -> None:
        column, new, put = self._column, self._column.new, self._column.put
        with memoryview(block.buffer) as view:
            for number, start, stop, columns, first, last in block.pieces:
                if column not in columns:
                    continue
                if first and last:
                    put(number, new(view[start:stop]).digest())
                    continue
                if first:
                    self._current = new()
                self._current.update(view[start:stop])
                if last:
                    put(number, self._current.digest())
        block.done()
