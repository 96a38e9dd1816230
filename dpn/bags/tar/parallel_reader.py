"""Reads a tar with all cores: different files on different ones."""

from __future__ import annotations

import threading
from functools import partial
from types import TracebackType
from typing import Self

from dpn.bags.hash_threads import READ_BYTES, Progress, Workers, take
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.headers import BLOCK_BYTES
from dpn.bags.tar.reader import SMALLEST_WINDOW_BYTES, ZEROS, Columns, free_buffers, window_bytes

LARGE_FILE_BYTES = READ_BYTES // 4
"""From here on a file that crosses the edge of a window is read by itself."""

Piece = tuple[int, int, int, Columns]
"""A file's number, where it begins and ends in a window, and where its digests go."""


class ParallelReader:
    """Files on all cores. Reads each byte once, but for less than 64 KiB beside a large file."""

    def __init__(self, tar: TarFile, threads: int, progress: Progress) -> None:
        self._tar = tar
        self._progress = progress
        self._workers = Workers(threads, progress)
        self._local = threading.local()
        self._window_bytes = window_bytes(tar)
        self._free = free_buffers(threads + 1, self._window_bytes)
        self._window = bytearray(self._window_bytes)
        self._base = 0
        self._filled = 0
        self._step = SMALLEST_WINDOW_BYTES // 2
        self._pieces: list[Piece] = []
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
            if chunk != ZEROS[: len(chunk)]:
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
            self._step = SMALLEST_WINDOW_BYTES
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

    def _hash_pieces(self, window: bytearray, pieces: list[Piece]) -> None:
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
