"""One staging volume of this machine: its marker, its paths, and how much room is on it.

Layout: `.dpn-volume` (the marker), `items/<item id>/<lease token>/<bag>.tar`, `quarantine/<item id>/`. Paths are
made of numbers and checked UUIDs only.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from dpn.errors import Misconfigured
from dpn.files import DISK_FULL, make_durable, new_file, publish_new, sync_folder
from dpn.identifiers import UUID
from dpn.staging.disk_use import allocated_bytes

MARKER = ".dpn-volume"
MAX_MARKER_BYTES = 256

ITEMS = "items"
QUARANTINE = "quarantine"

_REMOVALS = 20
_BAG = UUID.pattern.removesuffix(r"\Z")
_STAGED_PATH = re.compile(rf"items/[1-9][0-9]*/[1-9][0-9]*/{_BAG}\.tar")


class VolumeUnusable(Misconfigured):
    """The volume's disk takes no files now: nothing is staged there until it does. All else goes on."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A staging volume that this machine mounts at `path`."""

    name: str
    path: Path

    @property
    def items(self) -> Path:
        return self.path / ITEMS

    @property
    def quarantine(self) -> Path:
        return self.path / QUARANTINE

    def item_folder(self, item_id: int) -> Path:
        return self.items / _number(item_id)

    def quarantine_folder(self, item_id: int) -> Path:
        return self.quarantine / _number(item_id)

    def staged_path(self, relative: str) -> Path:
        """Where the file lies that a manifest names. Raises ValueError for anything but a staged bag's path."""
        if not _STAGED_PATH.fullmatch(relative):
            raise ValueError(f"not the path of a staged bag: {relative!a}")
        return self.path / relative

    def relative(self, path: Path) -> str:
        """How a manifest names the staged bag at `path`. Raises ValueError for any other place."""
        relative = path.relative_to(self.path).as_posix()
        self.staged_path(relative)
        return relative

    def set_up(self, *, known: bool) -> None:
        """Makes sure that the volume can be used; `known` says whether the database has heard of it before.

        A new volume gets its marker. A known one that has none is a disk that is not mounted, or another
        machine's volume of the same name: raises Misconfigured, as it does if the folder is missing. Raises
        VolumeUnusable for a disk that takes no files, OSError for one that fails.
        """
        if not self.path.is_dir():
            raise Misconfigured(
                f"staging.volumes.{self.name}: {self.path} is no folder: create it or mount its disk"
            )
        if known or self._marker.exists():
            self.check()
        self._try_marking()
        for folder in (self.items, self.quarantine):
            folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.path)

    def check(self) -> None:
        """Raises Misconfigured unless the volume's own disk is mounted at its path."""
        try:
            with self._marker.open("rb") as file:
                name = file.read(MAX_MARKER_BYTES).decode("ascii", "replace").strip()
        except FileNotFoundError as error:
            raise Misconfigured(
                f"staging.volumes.{self.name}: {self._marker} is missing: mount the volume's disk at {self.path}; "
                f"if another machine has a volume of this name, choose another name here; if the disk is new and "
                f"meant to take the old one's place, write {self.name!r} into that file"
            ) from error
        if name != self.name:
            raise Misconfigured(
                f"staging.volumes.{self.name}: {self.path} is volume {name!a}: mount the right disk there, or "
                f"correct the name in the settings"
            )

    def try_writing(self, *, mark: bool = False) -> None:
        """Raises OSError unless the disk takes a file. With `mark` that becomes the marker, if there is none."""
        with new_file(self._marker) as (file, temporary):
            file.write(f"{self.name}\n".encode())
            make_durable(file)
            if mark:
                publish_new(temporary, self._marker)

    def free_bytes(self) -> int:
        """What we could still write."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def total_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_blocks * found.f_frsize

    def held_bytes(self, item_id: int) -> int:
        """Bytes on the disk in the folder of the item's latest holder: those of earlier holders will go."""
        tokens = numbered_folders(self.item_folder(item_id))
        return allocated_bytes(tokens[max(tokens)]) if tokens else 0

    @property
    def _marker(self) -> Path:
        return self.path / MARKER

    def _try_marking(self) -> None:
        mark = not self._marker.exists()
        try:
            self.try_writing(mark=mark)
        except FileExistsError:
            self.check()  # another process of ours was quicker
        except OSError as error:
            if error.errno in DISK_FULL and not mark:
                return  # what is staged there can still be validated and stored, which is what makes room
            raise VolumeUnusable(
                f"staging.volumes.{self.name}: cannot write to {self.path} ({error.strerror}): fix its "
                f"permissions or its disk"
            ) from error


def numbered_folders(folder: Path) -> dict[int, Path]:
    """The folders in `folder` that are named by a number; whatever else lies there is not ours."""
    try:
        with os.scandir(folder) as entries:
            return {
                int(entry.name): Path(entry.path)
                for entry in entries
                if entry.name.isascii() and entry.name.isdecimal() and entry.is_dir(follow_symlinks=False)
            }
    except FileNotFoundError:
        return {}


def remove_tree(folder: Path) -> None:
    """Removes a folder and all in it, also what another process adds meanwhile; what it removes is no error.

    Follows no links. Raises OSError.
    """
    tries = 0
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            tries += 1
            if error.errno != errno.ENOTEMPTY or tries == _REMOVALS:
                raise


def _number(value: int) -> str:
    if type(value) is not int or value < 1:
        raise ValueError(f"not the id of an item: {value!r}")
    return str(value)
