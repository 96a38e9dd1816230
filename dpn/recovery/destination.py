"""Where a bag that comes back appears: whole and proven, under its name, or not at all.

    <folder>/.dpn-restore-<name>/   what is on its way; ours alone, kept until the bag is here
    <folder>/<uuid>.tar             the bag, or
    <folder>/<uuid>/                the same, unpacked

Nothing that is there is ever overwritten, but for an empty file under the tar's name while the tar is on its way:
on a file system without hard links that is how the name is kept free. Whatever dies, the same call goes on with
what came.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpn.errors import Misconfigured, NoSpace, PermanentError, TransientError
from dpn.files import publish_new, sync_folder

SCRATCH = ".dpn-restore-"


class Occupied(PermanentError):
    """Where the bag would appear, something else lies: look at it, move it away, or choose another folder."""


class Busy(TransientError):
    """Another process brings the same bag here right now."""


class Destination:
    """A place for one bag in a folder of somebody's; `name` is what tells one way of getting it from another."""

    def __init__(self, folder: Path, *, bag: str, name: str, unpacked: bool = False) -> None:
        self.folder = folder.resolve()
        self.bag = bag
        self.unpacked = unpacked
        self.scratch = self.folder / f"{SCRATCH}{name}"
        self.tar = self.scratch / f"{bag}.tar"
        """Where what comes is to be written."""

    @property
    def target(self) -> Path:
        """The bag, once it is here."""
        return self.folder / (self.bag if self.unpacked else f"{self.bag}.tar")

    def is_taken(self) -> bool:
        """Whether something lies where the bag would appear: it may be the bag. Raises Misconfigured, Occupied
        (it is neither the plain file nor the folder that could be the bag)."""
        if not self.folder.is_dir():
            raise Misconfigured(f"{self.folder} is not a folder: make it, or name another one")
        try:
            found = self.target.lstat()
        except FileNotFoundError:
            return False
        if not (stat.S_ISDIR if self.unpacked else stat.S_ISREG)(found.st_mode):
            raise self._occupied()
        return not self._only_keeps_the_name()

    @contextmanager
    def held(self) -> Iterator[int]:
        """Makes the scratch folder and keeps others out of it; gives the descriptor that locks it.

        Raises Busy, Occupied (somebody else's scratch folder), OSError.
        """
        self.scratch.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.scratch, flags)
        except NotADirectoryError as error:
            raise Occupied(f"{self.scratch} is not a folder of ours: look at it, and move it away") from error
        try:
            self._lock(descriptor)
            try:
                yield descriptor
            finally:
                with suppress(OSError):
                    self.scratch.rmdir()  # nothing came: nothing is left
        finally:
            os.close(descriptor)

    def require_room(self, size: int) -> None:
        """Raises NoSpace if a bag of `size` bytes, once more if it is unpacked, does not fit beside what came."""
        came = 512 * self.tar.stat().st_blocks if self.tar.is_file() else 0
        missing = max(0, size - came) + (size if self.unpacked else 0)
        free = shutil.disk_usage(self.folder).free
        if free < missing:
            raise NoSpace(f"{self.folder} has {free} bytes left, {missing} are still to come: free or add some")

    def discard_unpacked(self) -> None:
        """Removes what an unpacking left that was broken off."""
        if (self.scratch / self.bag).is_dir():
            shutil.rmtree(self.scratch / self.bag)

    def publish(self) -> Path:
        """Gives the proven bag its name and removes the scratch folder. Raises Occupied if the name is taken."""
        if self.unpacked:
            self._publish_folder()
        else:
            self._publish_tar()
        sync_folder(self.folder)
        self.discard()
        return self.target

    def discard(self) -> None:
        """Removes the scratch folder with all that is in it, if it is there; by who holds it only."""
        if self.scratch.is_dir() and not self.scratch.is_symlink():
            shutil.rmtree(self.scratch)
            sync_folder(self.folder)

    def _publish_tar(self) -> None:
        self.tar.chmod(0o666 & ~_umask())
        try:
            publish_new(self.tar, self.target)
        except FileExistsError as error:
            if not self._only_keeps_the_name():
                raise self._occupied() from error
            self.tar.replace(self.target)
        except OSError:
            # A file system without hard links: an empty file of ours takes the name first, so that it is free.
            try:
                os.close(os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
            except FileExistsError as error:
                if not self._only_keeps_the_name():
                    raise self._occupied() from error
            self.tar.replace(self.target)

    def _only_keeps_the_name(self) -> bool:
        """Whether an empty file lies there, of a run that died before the tar in scratch took its place."""
        try:
            found = self.target.lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == 0 and not self.unpacked and self.tar.is_file()

    def _publish_folder(self) -> None:
        try:
            (self.scratch / self.bag).rename(self.target)  # over an empty folder at most
        except OSError as error:
            if not os.path.lexists(self.target):
                raise
            raise self._occupied() from error

    def _lock(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise Occupied(f"{self.scratch} is not ours alone: look at it, and move it away")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"{self.scratch} is in use: another process brings the bag here right now") from error
        if not self.scratch.is_dir() or self.scratch.stat().st_ino != found.st_ino:
            raise Busy(f"{self.scratch} was just removed: another process was done with it")

    def _occupied(self) -> Occupied:
        return Occupied(
            f"{self.target} is there, and it is not the bag that was asked for: look at it, move it away, or "
            "choose another folder. Nothing was overwritten"
        )


def _umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask
