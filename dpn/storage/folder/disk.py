"""The folder that a folder store is: where its files are, and what its disk's troubles mean to a caller."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

from dpn.errors import Misconfigured, StoreUnavailable
from dpn.files import DISK_FULL, is_temporary, replace_file
from dpn.storage.errors import SourceUnreadable
from dpn.storage.folder.files import is_bad_left_over
from dpn.storage.folder.sidecar import SIDECAR_SUFFIX, read_sidecar
from dpn.storage.store import MARKER, check_key, is_bag_key
from dpn.storage.stored_object import StoredObject

PROBE_PREFIX = ".dpn-probe-"
WRONG_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP, errno.ENOSYS}
MAX_MARKER_BYTES = 4096
_log = logging.getLogger(__name__)


class Disk:
    """One folder. `service` names its breaker."""

    def __init__(self, service: str, folder: Path) -> None:
        self.service = service
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the object is, or would be."""
        return self.folder / check_key(key)

    def head(self, key: str) -> StoredObject | None:
        """See dpn.storage.store.Store.head."""
        path = self.path(key)
        with self.troubles():
            # Asked first: a disk that is not mounted must not look like an empty store.
            self.folder.stat()
            try:
                found = path.lstat()
            except FileNotFoundError:
                return None
        if not S_ISREG(found.st_mode):
            raise Misconfigured(f"{self.service}: {path} is not a regular file: move it away")
        return StoredObject(
            key=key,
            size=found.st_size,
            modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
            metadata=read_sidecar(path),
        )

    def keys(self) -> Iterator[str]:
        """See dpn.storage.store.Store.keys."""
        with self.troubles(), os.scandir(self.folder) as entries:
            for entry in entries:
                if is_bag_key(entry.name) and entry.is_file(follow_symlinks=False):
                    yield entry.name

    def marker(self) -> str | None:
        """See dpn.storage.store.Store.marker."""
        with self.troubles():
            self.folder.stat()
            try:
                with (self.folder / MARKER).open("rb") as file:
                    return file.read(MAX_MARKER_BYTES).decode("ascii", "replace").strip()
            except FileNotFoundError:
                return None

    def mark(self, text: str) -> None:
        """See dpn.storage.store.Store.mark."""
        with self.troubles(), replace_file(self.folder / MARKER) as file:
            file.write(f"{text}\n".encode("ascii"))

    def refuse_without_room(self, size: int) -> None:
        """Raises StoreUnavailable if a file of so many bytes cannot be held."""
        with self.troubles():
            free = shutil.disk_usage(self.folder).free
        if free < size:
            raise StoreUnavailable(
                self.service, f"{self.folder} has {free} bytes left for a bag of {size}: free or add some"
            )

    def remove_left_overs(self, before: datetime) -> int:
        """Removes what crashes left behind before then; returns how many files."""
        removed = 0
        with self.troubles():
            for path in list(self.folder.iterdir()):
                if _is_left_over(path) and path.lstat().st_mtime < before.timestamp():
                    _log.info("removing %s, left over by a crash", path)
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    @contextmanager
    def troubles(self) -> Iterator[None]:
        """A full or failing disk is the store's outage; a staged file's is not; FileExistsError is an answer."""
        try:
            yield
        except (SourceUnreadable, FileExistsError):
            raise
        except OSError as error:
            raise self._trouble(error) from error

    @contextmanager
    def reading_objects(self) -> Iterator[None]:
        """For files of the store itself: one that cannot be read is the store's trouble."""
        try:
            yield
        except SourceUnreadable as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> Misconfigured | StoreUnavailable:
        if not self.folder.is_dir():
            return Misconfigured(f"{self.service}: {self.folder} is no folder: create it, or mount its disk")
        if error.errno in WRONG_FOLDER:
            return Misconfigured(
                f"{self.service}: {error}: {self.folder} must be writable for this user, "
                "and on a file system with hard links"
            )
        remedy = f": free or add space in {self.folder}" if error.errno in DISK_FULL else ": look at its disk"
        return StoreUnavailable(self.service, f"{error}{remedy}")


def _refers_to_nothing(path: Path) -> bool:
    return (
        path.name.endswith(SIDECAR_SUFFIX) and not path.with_name(path.name.removesuffix(SIDECAR_SUFFIX)).exists()
    )


def _is_left_over(path: Path) -> bool:
    return (
        is_bad_left_over(path)
        or is_temporary(path.name)
        or path.name.startswith(PROBE_PREFIX)
        or _refers_to_nothing(path)
    )
