"""Reads a bag that lies in a folder."""

# Names are bytes here, which pathlib does not have.
# ruff: noqa: PTH118, PTH208

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from dpn.bags.building.entries import Content, FileContent
from dpn.bags.digests import Column, DigestTable
from dpn.bags.errors import BagChanged
from dpn.bags.findings import Findings
from dpn.bags.hash_threads import READ_BYTES, Progress, Workers
from dpn.bags.index import PAYLOAD_PREFIX, FileIndex, TooManyEntries
from dpn.bags.manifest_names import manifest_algorithms

_FILES_PER_TASK = 64
_BYTES_PER_TASK = 4 * READ_BYTES


class FolderContents:
    """A bag in a folder. `read` reads it; afterwards its files can be asked for. Links are never followed."""

    serialized = False
    sha256: str | None = None

    def __init__(
        self, path: Path, findings: Findings, *, max_entries: int, threads: int, progress: Progress
    ) -> None:
        self._base = os.fsencode(path.resolve())
        self._findings = findings
        self._threads = threads
        self._progress = progress
        self._names: list[bytes] = []
        self._empty_folders: list[bytes] = []
        payload, tags = manifest_algorithms(os.listdir(self._base))
        self.index = FileIndex(findings, DigestTable(payload, tags), max_entries)
        self.name = self.expected_name = path.resolve().name
        self.complete = False

    def read(self) -> None:
        """Walk and hash everything. Raises OSError, BagChanged, Interrupted."""
        with Workers(self._threads, self._progress) as workers:
            batch: list[int] = []
            batch_bytes = 0
            try:
                for number in self._walk():
                    batch.append(number)
                    batch_bytes += self.index.sizes[number]
                    if len(batch) >= _FILES_PER_TASK or batch_bytes >= _BYTES_PER_TASK:
                        workers.submit(partial(self._hash_files, batch))
                        batch, batch_bytes = [], 0
            except TooManyEntries:
                return
            workers.submit(partial(self._hash_files, batch))
            workers.finish()
        self.complete = True

    def files(self) -> Iterator[tuple[int, bytes, Content]]:
        """Instead of `read`: number, name and content of each file, for who reads them himself and puts their
        digests into the index's columns before he asks for the next one."""
        try:
            for number in self._walk():
                name = self._names[number]
                yield number, name, FileContent(os.path.join(self._base, name), self.index.sizes[number])
        except TooManyEntries:
            return
        self.complete = True

    def empty_folders(self) -> Iterator[bytes]:
        """After `files`: names of the payload's folders with nothing in them."""
        return iter(self._empty_folders)

    def name_of(self, number: int) -> bytes:
        self._progress.tick()
        return self._names[number]

    def chunks(self, number: int) -> Iterator[bytes]:
        buffer = memoryview(bytearray(READ_BYTES))
        for view in self._views(number, buffer):
            self._progress.tick()
            yield bytes(view)

    def compute(self, column: Column, numbers: Iterable[int]) -> None:
        with Workers(self._threads, self._progress) as workers:
            for number in numbers:
                workers.submit(partial(self._hash_file, number, (column,), None))
            workers.finish()

    def check_unchanged(self) -> None:
        """Each file was compared with its size while it was read; a folder has no one moment to compare with."""

    def _walk(self) -> Iterator[int]:
        """Numbers of the files, folder by folder."""
        waiting = [b""]
        while waiting:
            self._progress.tick()
            folder = waiting.pop()
            entries = _sorted_entries(os.path.join(self._base, folder))
            if not entries and folder.startswith(PAYLOAD_PREFIX):
                self._empty_folders.append(folder)
            for entry in entries:
                name = os.path.join(folder, entry.name)
                if entry.is_symlink():
                    self._findings.add("folder-link", "A symbolic link. Put the content in its place.", name)
                elif entry.is_dir(follow_symlinks=False):
                    self.index.add_folder(name)
                    waiting.append(name)
                elif entry.is_file(follow_symlinks=False):
                    size = entry.stat(follow_symlinks=False).st_size
                    number = self.index.add_file(name, len(self._names), size)
                    if number is not None:
                        self._names.append(name)
                        yield number
                else:
                    self._findings.add("folder-special", "Neither a file nor a folder.", name)

    def _hash_files(self, numbers: list[int]) -> None:
        buffer = memoryview(bytearray(READ_BYTES))
        index = self.index
        for number in numbers:
            columns = index.digests.payload if index.is_payload[number] else index.digests.tags
            self._hash_file(number, columns, buffer)

    def _hash_file(self, number: int, columns: tuple[Column, ...], buffer: memoryview | None) -> None:
        hashers = [column.new() for column in columns]
        for view in self._views(number, buffer or memoryview(bytearray(READ_BYTES))):
            for hasher in hashers:
                hasher.update(view)
            self._progress.add(len(view))
        for column, hasher in zip(columns, hashers, strict=True):
            column.put(number, hasher.digest())
        self._progress.add(0, 1)

    def _views(self, number: int, buffer: memoryview) -> Iterator[memoryview]:
        path = os.path.join(self._base, self._names[number])
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            before = os.fstat(fd)
            left = self.index.sizes[number]
            if not stat.S_ISREG(before.st_mode) or before.st_size != left:
                raise _changed(path)
            while left:
                count = os.readv(fd, [buffer[:left]])
                if not count:
                    raise _changed(path)
                yield buffer[:count]
                left -= count
            after = os.fstat(fd)
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise _changed(path)
        finally:
            os.close(fd)


def _sorted_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _changed(path: bytes) -> BagChanged:
    return BagChanged(f"{os.fsdecode(path)} changed while it was being read: validate again when it is at rest")
