"""A folder as a root; see dpn.objects.root for what it promises."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from dpn.cancellation import Cancellation
from dpn.errors import ObjectExists, SourceChanged, StoreFull, StoreMissing
from dpn.files import make_durable, new_file, publish_new, sync_folder, write_all
from dpn.objects.content import ObjectContent
from dpn.objects.folder.root_folder import EPOCH, NOTHING_THERE, HeldFolder, RootFolder, info_of, tag_of
from dpn.objects.folder.walk import walk_folder
from dpn.objects.keys import check_key, check_prefix, shown
from dpn.objects.root import ObjectInfo, OpenObject, PartialWrite, Tell, WriteOptions, WrittenObject

READ_BYTES = 256 * 1024
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
TEMPORARY_FOR = "object"
"""What stands in the names of files under way: a key's own last part may leave no room for more."""


class FolderRoot:
    """`folder` is there, on one file system with hard links."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._place = RootFolder(f"root:{name}", folder)

    def walk(
        self,
        prefix: str = "",
        *,
        after: str | None = None,
        skipped: Tell = lambda _: None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[ObjectInfo]:
        """See Root.walk."""
        return walk_folder(
            self._place,
            check_prefix(prefix),
            check_key(after) if after else None,
            skipped,
            cancellation or Cancellation(),
        )

    def head(self, key: str, cancellation: Cancellation | None = None) -> ObjectInfo | None:
        """See Root.head."""
        with self._place.troubles():
            try:
                with self._place.held(key) as held:
                    found = held.stat()
            except OSError as error:
                if error.errno in NOTHING_THERE:
                    return None
                raise
        return info_of(key, found) if S_ISREG(found.st_mode) else None

    @contextmanager
    def open(
        self,
        key: str,
        *,
        tag: str | None = None,
        start: int = 0,
        size: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[OpenObject]:
        """See Root.open."""
        with self._place.troubles():
            descriptor = self._open(key)
        try:
            found = os.fstat(descriptor)
            info = info_of(key, found)
            if not S_ISREG(found.st_mode):
                raise StoreMissing(f"{self._place.service}: {shown(key)} is no file")
            if tag is not None and info.tag != tag:
                raise self._changed(key)
            end = info.size if size is None else start + size
            if end > info.size:
                raise self._changed(key)
            yield OpenObject(info, self._read(descriptor, info, start, end, cancellation or Cancellation()))
        finally:
            os.close(descriptor)

    def write(self, key: str, chunks: Iterable[bytes], size: int, how: WriteOptions) -> WrittenObject:
        """See Root.write. Nothing is taken up again: a file under way is gone, or left over by a crash."""
        content = ObjectContent(key, chunks, size, how)
        try:
            with self._place.held(key, make=True) as held:
                self._refuse(held, key, how)
                self._refuse_without_room(held, size)
                with new_file(held.folder / TEMPORARY_FOR) as (file, temporary):
                    for data in content:
                        write_all(file, data)
                    hashes = content.hashes()
                    tag = self._finish(file, how)
                    self._refuse(held, key, how)
                    self._name(held, temporary, how)
        except (FileExistsError, IsADirectoryError) as error:
            if error is content.failure:
                raise
            raise self._taken(key, "something is there") from error
        except OSError as error:
            if error is content.failure:
                raise
            raise self._place.trouble(error) from error
        return WrittenObject(key, size, tag, None, hashes, checked=False)

    def abandon(self, key: str, partial: PartialWrite) -> None:
        """See Root.abandon: a write to a folder leaves nothing that could be taken up."""

    def remove(self, key: str, *, tag: str | None = None, cancellation: Cancellation | None = None) -> bool:
        """See Root.remove. Folders stay, empty ones too."""
        with self._place.troubles():
            try:
                with self._place.held(key) as held:
                    found = held.stat()
                    if not S_ISREG(found.st_mode):
                        return False
                    if tag is not None and tag_of(found) != tag:
                        raise self._changed(key)
                    os.unlink(held.name, dir_fd=held.descriptor)
                    sync_folder(held.folder)
                    return True
            except OSError as error:
                if error.errno in NOTHING_THERE:
                    return False
                raise

    def _open(self, key: str) -> int:
        try:
            with self._place.held(key) as held:
                # Non-blocking, so that a pipe put there holds nobody up; no effect on files.
                return os.open(held.name, READING, dir_fd=held.descriptor)
        except OSError as error:
            if error.errno in NOTHING_THERE:
                raise StoreMissing(f"{self._place.service}: there is no {shown(key)}") from error
            raise

    def _read(
        self, descriptor: int, info: ObjectInfo, start: int, end: int, cancellation: Cancellation
    ) -> Iterator[bytes]:
        while start < end:
            cancellation.check()
            with self._place.troubles():
                data = os.pread(descriptor, min(READ_BYTES, end - start), start)
            if not data:
                raise self._changed(info.key)
            start += len(data)
            # What was written in between is of another time, whether it was read or not.
            if start == end and tag_of(os.fstat(descriptor)) != info.tag:
                raise self._changed(info.key)
            yield data

    def _refuse(self, held: HeldFolder, key: str, how: WriteOptions) -> None:
        """What keeps the file from its name. (A replacement at this very moment is not seen.)"""
        try:
            found = held.stat()
        except FileNotFoundError:
            if how.if_tag is not None:
                raise self._taken(key, "the one to be replaced is gone") from None
            return
        if how.if_absent:
            raise self._taken(key, "it is there")
        if not S_ISREG(found.st_mode):
            raise self._taken(key, "a folder, a link or a device has its name")
        if how.if_tag is not None and tag_of(found) != how.if_tag:
            raise self._taken(key, "another one than was to be replaced is there")

    def _refuse_without_room(self, held: HeldFolder, size: int) -> None:
        disk = os.fstatvfs(held.descriptor)
        if disk.f_bavail * disk.f_frsize < size:
            raise StoreFull(self._place.service, f"no room for {size} bytes: free some in {self._place.folder}")

    @staticmethod
    def _finish(file: BinaryIO, how: WriteOptions) -> str:
        """Puts it on disk; returns its tag, which a new name does not change."""
        file.flush()
        if how.modified_at is not None:
            nanoseconds = (how.modified_at - EPOCH) // timedelta(microseconds=1) * 1000
            os.utime(file.fileno(), ns=(nanoseconds, nanoseconds))
        make_durable(file)
        return tag_of(os.fstat(file.fileno()))

    @staticmethod
    def _name(held: HeldFolder, temporary: Path, how: WriteOptions) -> None:
        if how.if_absent:
            publish_new(temporary, held.path)
        else:
            temporary.replace(held.path)
            sync_folder(held.folder)

    def _taken(self, key: str, why: str) -> ObjectExists:
        return ObjectExists(f"{self._place.service}: {shown(key)}: {why}: it is not replaced")

    def _changed(self, key: str) -> SourceChanged:
        return SourceChanged(f"{self._place.service}: {shown(key)} changed, or is another one by now")
