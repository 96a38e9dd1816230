"""Where the files of a root are: reached part by part from its folder, so that no link leads out of it.

A path is a question asked anew each time, and whoever may write below a root can put a link in a folder's place.
So each folder on the way is opened within the one before it, and what is done happens in the last one, by its
descriptor.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dpn.errors import AccessRefused, Misconfigured, ObjectExists, StoreFull, StoreUnavailable
from dpn.files import DISK_FULL, sync_folder
from dpn.objects.keys import MAX_PART_BYTES, KeyRefused, check_key, shown
from dpn.objects.root import ObjectInfo

HOLDING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)


class HeldFolder:
    """A folder below a root, open; `name` is a file's name in it."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.folder = Path(f"/proc/self/fd/{descriptor}")
        self.path = self.folder / name
        """Leads there as long as the folder is held; the file itself may be a link."""

    def stat(self) -> os.stat_result:
        """Of the file itself, never of what a link leads to. Raises OSError."""
        return os.stat(self.name, dir_fd=self.descriptor, follow_symlinks=False)


class RootFolder:
    """The folder of a root. `service` names its breaker."""

    def __init__(self, service: str, folder: Path) -> None:
        self.service = service
        self.folder = folder

    @contextmanager
    def held(self, key: str, *, make: bool = False) -> Iterator[HeldFolder]:
        """The folder in which the file of `key` is, or would be; made if it is missing and `make` says so.

        Raises KeyRefused, ObjectExists (`make`, and a file or a link is on the way), FileNotFoundError and
        NotADirectoryError (there is no such folder), other errors of the system.
        """
        *folders, name = check_key(key).split("/")
        if any(len(part.encode()) > MAX_PART_BYTES for part in (*folders, name)):
            raise KeyRefused(f"key {shown(key)}: a part of it has more bytes than a file's name: shorten it")
        descriptor = self.open()
        try:
            for part in folders:
                below = self._below(descriptor, part, key) if make else os.open(part, HOLDING, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield HeldFolder(descriptor, name)
        finally:
            os.close(descriptor)

    def open(self) -> int:
        """A descriptor of the root's folder itself, which may be reached by links. Raises Misconfigured."""
        try:
            return os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            # A disk that is not mounted must not look like an empty root.
            raise self._no_folder() from error
        except NotADirectoryError as error:
            raise self._no_folder() from error

    @contextmanager
    def troubles(self) -> Iterator[None]:
        """What the disk's refusals mean to whoever uses the root."""
        try:
            yield
        except OSError as error:
            raise self.trouble(error) from error

    def trouble(self, error: OSError) -> Exception:
        """The error of ours that one of the system's stands for."""
        if error.errno in DISK_FULL:
            return StoreFull(self.service, f"{error.strerror}: free or add space in {self.folder}")
        if error.errno in NOT_ALLOWED:
            return AccessRefused(
                f"{self.service}: {error.strerror}: allow this user what it must do in {self.folder}"
            )
        if error.errno in (errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            return Misconfigured(
                f"{self.service}: {error.strerror}: {self.folder} must be on a file system with hard links"
            )
        if error.errno == errno.ENAMETOOLONG:
            return KeyRefused(f"{self.service}: a part of the key is too long for the disk: shorten it")
        return StoreUnavailable(self.service, f"{error.strerror}: look at the disk of {self.folder}")

    def _below(self, descriptor: int, part: str, key: str) -> int:
        """The folder of that name in another one, made if it is missing."""
        try:
            try:
                return os.open(part, HOLDING, dir_fd=descriptor)
            except FileNotFoundError:
                self._make(descriptor, part)
                return os.open(part, HOLDING, dir_fd=descriptor)
        except NotADirectoryError as error:
            raise ObjectExists(
                f"{self.service}: {shown(key)}: {shown(part)} on the way to it is a file, or a link: move it away"
            ) from error

    @staticmethod
    def _make(descriptor: int, part: str) -> None:
        try:
            os.mkdir(part, dir_fd=descriptor)
        except FileExistsError:  # somebody else was faster
            return
        sync_folder(Path(f"/proc/self/fd/{descriptor}"))

    def _no_folder(self) -> Misconfigured:
        return Misconfigured(f"{self.service}: {self.folder} is no folder: create it, or mount its disk")


def info_of(key: str, found: os.stat_result) -> ObjectInfo:
    """What a file says of the object that it is."""
    return ObjectInfo(key, found.st_size, _time(found.st_mtime_ns), tag_of(found))


def tag_of(found: os.stat_result) -> str:
    """Tells this content of a file from others: whoever changes it in place changes its time."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"


def _time(nanoseconds: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:  # a file may have any time
        return NEVER
