"""The folder of one holder of an item: whoever has its lock is the only one that writes there.

A folder is named by the lease token of its holder. A later holder takes an earlier one's folder over by renaming
it, if nobody has its lock any more, so that bytes that came already are used; a former holder that is stuck, or
an rsync of its that outlived it, keeps its folder and can never write into the one we use.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dpn.errors import LeaseLost, TransientError
from dpn.files import sync_folder
from dpn.staging.volumes import Volume, numbered_folders, remove_tree

LOCK = ".lock"

_REMOVED = ".removed-"
TRIES = 20
"""How often a folder is asked for anew because another process changed what was looked at."""


@dataclass(frozen=True, slots=True)
class StagingFolder:
    """A folder that is ours for now."""

    path: Path
    keep_open: tuple[int, ...]
    """Descriptors that a child process inherits if it writes here: the folder stays locked until it ends, too."""
    adopted: bool
    """Whether it was an earlier holder's, with what that left in it."""


@contextmanager
def hold_folder(volume: Volume, item_id: int, token: int) -> Iterator[StagingFolder]:
    """The folder of the item's holder `token`, locked; after the block its name survives a power cut.

    Raises LeaseLost if a later holder has one already, TransientError if a process of ours still uses it.
    """
    item_folder = volume.item_folder(item_id)
    path, descriptor, adopted = _take(item_folder, token)
    try:
        _refuse_if_later(item_folder, token)
        _remove_unlocked(item_folder, keep=token)
        yield StagingFolder(path=path, keep_open=(descriptor,), adopted=adopted)
        sync_folder(item_folder)
        sync_folder(volume.items)
    finally:
        os.close(descriptor)


def tidy(volume: Volume, item_id: int, token: int) -> bool:
    """Leaves of the item what its holder `token` goes on from, in his folder, and what others still write to;
    false if there is nothing to go on from. Raises as `hold_folder`."""
    item_folder = volume.item_folder(item_id)
    _remove_renamed(item_folder)  # first: a new folder may find no room before
    if not numbered_folders(item_folder):
        return False
    with hold_folder(volume, item_id, token):
        return True


def remove_item(volume: Volume, item_id: int) -> None:
    """Removes all that is staged of the item, locked or not; safe to repeat."""
    remove_tree(volume.item_folder(item_id))


def remove_abandoned(volume: Volume, item_id: int) -> bool:
    """Removes what is staged of the item and in nobody's use; true if nothing is left."""
    item_folder = volume.item_folder(item_id)
    _remove_unlocked(item_folder, keep=None)
    try:
        item_folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _take(item_folder: Path, token: int) -> tuple[Path, int, bool]:
    own = item_folder / str(token)
    for _ in range(TRIES):
        item_folder.mkdir(mode=0o700, exist_ok=True)
        _refuse_if_later(item_folder, token)
        held = numbered_folders(item_folder)
        if token in held:
            descriptor = _lock(own)
            if descriptor is None:
                raise TransientError(f"{own} is still in use by a process of this lease")
            return own, descriptor, True
        for earlier in sorted(held, reverse=True):
            if (descriptor := _adopt(held[earlier], own)) is not None:
                return own, descriptor, True
        if (descriptor := _make(own)) is not None:
            return own, descriptor, False
    raise TransientError(f"{item_folder} changes all the time: several workers are at it")


def _adopt(earlier: Path, own: Path) -> int | None:
    """The earlier folder under our name, locked; None if somebody uses or removed it."""
    descriptor = _lock(earlier)
    if descriptor is None:
        return None
    try:
        earlier.rename(own)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    return descriptor


def _make(folder: Path) -> int | None:
    """A new folder, locked; None if another process interfered."""
    try:
        folder.mkdir(mode=0o700)
    except (FileExistsError, FileNotFoundError):
        return None
    return _lock(folder)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another process has it, or the folder is gone."""
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody has it, or renamed or removed the folder before we had it
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _refuse_if_later(item_folder: Path, token: int) -> None:
    if any(other > token for other in numbered_folders(item_folder)):
        raise LeaseLost(f"{item_folder}: a later lease than {token} is at work there")


def _remove_unlocked(item_folder: Path, *, keep: int | None) -> None:
    """Under another name first: once its lock file is gone, the next holder would believe that the rest is his."""
    for token, folder in numbered_folders(item_folder).items():
        if token == keep:
            continue
        descriptor = _lock(folder)
        if descriptor is None:
            continue
        try:
            with suppress(FileNotFoundError):  # the whole item was removed meanwhile
                folder.rename(folder.with_name(f"{_REMOVED}{token}-{secrets.token_hex(4)}"))
        finally:
            os.close(descriptor)
    _remove_renamed(item_folder)


def _remove_renamed(item_folder: Path) -> None:
    for folder in item_folder.glob(f"{_REMOVED}*"):
        remove_tree(folder)
