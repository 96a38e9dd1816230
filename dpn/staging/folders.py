"""The folder of one holder of an item: whoever has its lock is the only one that writes there.

A folder is named by the lease token of its holder. A later holder takes an earlier one's folder over by renaming
it, if nobody has its lock any more, so that bytes that came already are used; a former holder that is stuck, or
an rsync of its that outlived it, keeps its folder and can never write into the one we use.

Tokens only tell holders apart within one history of the database. Where it was put back from a backup, what lies
here may be newer than it: later tokens of an item that we hold, or the folder of an item whose number went to
another one. So an item's folder says whose it is, and a later holder's folder counts only if we lost the item.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dpn.errors import LeaseLost, LocalTrouble, TransientError
from dpn.files import replace_file, sync_folder
from dpn.staging.volumes import Volume, numbered_folders, remove_tree

LOCK = ".lock"
WHOSE = ".item"
"""The file in an item's folder that says which item it is, by more than its number."""

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


def _somebody_does() -> None:
    raise LeaseLost("a later lease is at work there")


@contextmanager
def hold_folder(
    volume: Volume,
    item_id: int,
    token: int,
    *,
    whose: str | None = None,
    require_held: Callable[[], None] = _somebody_does,
) -> Iterator[StagingFolder]:
    """The folder of the item's holder `token`, locked; after the block what is in it and its name survive a power
    cut.

    `whose` names the item by more than its number, where that is known. `require_held` raises LeaseLost unless the
    item is held under this token at that moment; asked only if a later holder seems to be there. Raises
    LocalTrouble if a process of ours still uses it.
    """
    item_folder = volume.item_folder(item_id)
    path, descriptor, adopted = _take(item_folder, token, whose, require_held)
    try:
        _rename_unlocked(_others(item_folder, token, require_held))
        _remove_renamed(item_folder)
        yield StagingFolder(path=path, keep_open=(descriptor,), adopted=adopted)
        for folder in (path, item_folder, volume.items):
            sync_folder(folder)
    finally:
        os.close(descriptor)


def is_begun(volume: Volume, item_id: int) -> bool:
    """Whether there is something of the item to go on from. What is half removed goes: it may be in the way."""
    item_folder = volume.item_folder(item_id)
    _remove_renamed(item_folder)
    return bool(numbered_folders(item_folder))


def give_up_item(volume: Volume, item_id: int) -> None:
    """All that is staged of the item, locked or not, is nobody's from now on; `remove_given_up` removes it."""
    if not volume.item_folder(item_id).exists():
        return  # asked first, for a disk that has become read-only refuses also what is not there
    with suppress(FileNotFoundError):
        volume.item_folder(item_id).rename(volume.items / _removed_name(item_id))


def give_up_abandoned(volume: Volume, item_id: int) -> None:
    """The same for what is in nobody's use."""
    _rename_unlocked(numbered_folders(volume.item_folder(item_id)))


def remove_given_up(volume: Volume, item_id: int) -> bool:
    """Removes what was given up of the item; true if nothing is left of it."""
    item_folder = volume.item_folder(item_id)
    finish_removals(volume)
    _remove_renamed(item_folder)
    if numbered_folders(item_folder):
        return False
    if not item_folder.exists():
        return True
    (item_folder / WHOSE).unlink(missing_ok=True)
    try:
        item_folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def finish_removals(volume: Volume) -> None:
    """Removes the items that were given up, also by a process that died over it."""
    _remove_renamed(volume.items)


def _take(
    item_folder: Path, token: int, whose: str | None, require_held: Callable[[], None]
) -> tuple[Path, int, bool]:
    own = item_folder / str(token)
    for _ in range(TRIES):
        item_folder.mkdir(mode=0o700, exist_ok=True)
        if whose is not None and not _belongs_to(item_folder, whose):
            continue
        others = _others(item_folder, token, require_held)
        if token in numbered_folders(item_folder):
            descriptor = _lock(own)
            if descriptor is None:
                raise LocalTrouble(f"{own} is still in use by a process of this lease: wait for it, or end it")
            return own, descriptor, True
        for other in sorted(others, reverse=True):
            if (descriptor := _adopt(others[other], own)) is not None:
                return own, descriptor, True
        if (descriptor := _make(own)) is not None:
            return own, descriptor, False
    raise TransientError(f"{item_folder} changes all the time: several workers are at it")


def _belongs_to(item_folder: Path, whose: str) -> bool:
    """Makes the folder that item's, if need be; false if it went meanwhile. What lay there for another item of the
    same number is removed: no item of ours knows of it. Raises LocalTrouble if a process still uses that."""
    note = item_folder / WHOSE
    try:
        found = note.read_text(encoding="utf-8")
    except FileNotFoundError:
        found = whose if numbered_folders(item_folder) else ""  # of the time before there were such notes
    if found not in ("", whose):
        _rename_unlocked(numbered_folders(item_folder))
        _remove_renamed(item_folder)
        if numbered_folders(item_folder):
            raise LocalTrouble(
                f"{item_folder} is used by a process that works for {found}, which had this number before the "
                f"database was put back: end that process"
            )
    if found != whose or not note.exists():
        with suppress(FileNotFoundError), replace_file(note, permissions=0o600) as file:
            file.write(whose.encode())
    return item_folder.is_dir()


def _others(item_folder: Path, token: int, require_held: Callable[[], None]) -> dict[int, Path]:
    """The folders of other holders, none of whom holds the item now: of a later claim than what is looked at here
    our own would know. Raises LeaseLost."""
    others = {other: folder for other, folder in numbered_folders(item_folder).items() if other != token}
    if any(other > token for other in others):
        require_held()
    return others


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


def _rename_unlocked(folders: dict[int, Path]) -> None:
    """Under another name only: once its lock file is gone, the next holder would believe that the rest is his."""
    for number, folder in folders.items():
        descriptor = _lock(folder)
        if descriptor is None:
            continue
        try:
            with suppress(FileNotFoundError):  # the whole item was removed meanwhile
                folder.rename(folder.with_name(_removed_name(number)))
        finally:
            os.close(descriptor)


def _removed_name(number: int) -> str:
    return f"{_REMOVED}{number}-{secrets.token_hex(4)}"


def _remove_renamed(parent: Path) -> None:
    for folder in parent.glob(f"{_REMOVED}*"):
        remove_tree(folder)
