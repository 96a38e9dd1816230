"""A folder's files as a bucket would list them: in the order of keys, and in no more memory than a folder's names.

In a bucket "a-b" comes before "a/c", for '-' is before '/'. So a folder stands among its neighbours as its name
with a slash behind it, and what is below it comes there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from stat import S_ISREG
from typing import NamedTuple

from dpn.cancellation import Cancellation
from dpn.files import is_temporary
from dpn.objects.folder.root_folder import HOLDING, NOTHING_THERE, RootFolder, info_of
from dpn.objects.keys import MAX_KEY_BYTES, key_fault, shown
from dpn.objects.root import ObjectInfo, Skipped, Tell
from dpn.text import is_text

READING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CHECK_EVERY = 1000
"""Files, for the sake of speed."""


class _Level(NamedTuple):
    """A folder that is being gone through."""

    descriptor: int
    base: str
    """What the keys in it begin with."""
    names: Iterator[str]


def walk_folder(
    place: RootFolder, prefix: str, after: str | None, skipped: Tell, cancellation: Cancellation
) -> Iterator[ObjectInfo]:
    """See dpn.objects.root.Root.walk; `prefix` and `after` are keys, or empty."""
    levels: list[_Level] = []
    with place.troubles():
        descriptor = _start(place, prefix)
    if descriptor is None:
        return
    try:
        _push(levels, place, descriptor, f"{prefix}/" if prefix else "", after, skipped)
        while levels:
            cancellation.check()
            level = levels[-1]
            for name in level.names:
                if name[-1] == "/":
                    below = _enter(place, level, name, skipped)
                    if below is not None:
                        _push(levels, place, below, level.base + name, after, skipped)
                        break
                elif (info := _look(place, level, name, skipped)) is not None:
                    yield info
            else:
                os.close(levels.pop().descriptor)
    finally:
        for level in levels:
            os.close(level.descriptor)


def _start(place: RootFolder, prefix: str) -> int | None:
    """The folder to begin in, open for reading; None if there is none."""
    descriptor = place.open()
    try:
        for part in prefix.split("/") if prefix else ():
            below = os.open(part, HOLDING, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        return os.open(".", READING, dir_fd=descriptor)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise
    finally:
        os.close(descriptor)


def _push(
    levels: list[_Level], place: RootFolder, descriptor: int, base: str, after: str | None, skipped: Tell
) -> None:
    """Adds the open folder, with what of it comes behind `after`; it is closed if that fails."""
    try:
        names = _names(place, descriptor, base, skipped)
    except BaseException:
        os.close(descriptor)
        raise
    if after is not None and base <= after:
        if not after.startswith(base):
            names = []
        else:
            rest = after[len(base) :]
            names = [name for name in names if name > rest or (name[-1] == "/" and rest.startswith(name))]
    levels.append(_Level(descriptor, base, iter(names)))


def _names(place: RootFolder, descriptor: int, base: str, skipped: Tell) -> list[str]:
    """Of all files and folders that keys can name, a slash behind those of folders, in the order of keys."""
    names: list[str] = []
    room = MAX_KEY_BYTES - len(base.encode())
    with place.troubles(), os.scandir(descriptor) as entries:
        for entry in entries:
            name = entry.name
            # Nearly all names are like this; one of the system has no '/', and is not '.' or '..'.
            if not (name.isascii() and is_text(name) and len(name) <= room):
                fault = key_fault(base + name)
                if fault is not None:
                    skipped(Skipped(shown(base + name), fault))
                    continue
            if entry.is_file(follow_symlinks=False):
                if name[0] == "." and is_temporary(name):
                    skipped(Skipped(shown(base + name), "a file under way, or left over by a crash"))
                else:
                    names.append(name)
            elif entry.is_dir(follow_symlinks=False):
                names.append(f"{name}/")
            else:
                what = "a link" if entry.is_symlink() else "a device, a pipe or a socket"
                skipped(Skipped(shown(base + name), f"{what}, no file"))
    # By characters is by bytes of UTF-8, since no name here has half a one.
    names.sort()
    return names


def _enter(place: RootFolder, level: _Level, name: str, skipped: Tell) -> int | None:
    """The folder of that name, open; None if it is one no more."""
    try:
        return os.open(name[:-1], READING, dir_fd=level.descriptor)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            skipped(Skipped(shown(level.base + name), "a folder no more"))
        elif error.errno != errno.ENOENT:
            raise place.trouble(error) from error
    return None


def _look(place: RootFolder, level: _Level, name: str, skipped: Tell) -> ObjectInfo | None:
    try:
        found = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
    except FileNotFoundError:  # removed meanwhile
        return None
    except OSError as error:
        raise place.trouble(error) from error
    if not S_ISREG(found.st_mode):
        skipped(Skipped(shown(level.base + name), "a file no more"))
        return None
    return info_of(level.base + name, found)
