"""How much of an item lies on a volume: what is missing from its free space already, and need not come any more.

It is asked at each reservation, of every item that has one, so it must be quick. A tree that may have a million
files is not looked through then: its size is noted by who fills it (`note_tree`), and what comes into it later
counts as still to come until it is noted anew. Too little counted makes others wait, too much would fill the disk.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from dpn.files import DISK_FULL, replace_file

NOTE = ".counted"
MAX_NOTE_BYTES = 4096
DISK_BLOCK_BYTES = 512
"""The unit of `st_blocks` (stat(2))."""


def allocated_bytes(folder: Path) -> int:
    """Bytes of the disk that are taken by what is in `folder`, at any depth; a noted tree's as they are noted."""
    tree, noted_bytes = _noted(folder)
    return noted_bytes + _walked(folder, leave_out=None if tree is None else str(folder / tree))


def note_tree(folder: Path, tree: str) -> None:
    """Counts what is in the folder `tree` within `folder`, which may not be there yet, and notes it.

    On a full disk the note goes: then the tree is looked through whenever it is asked for. Raises OSError.
    """
    note = folder / NOTE
    counted_bytes = _walked(folder / tree, leave_out=None)
    try:
        with replace_file(note, permissions=0o600) as file:
            file.write(json.dumps({"tree": tree, "bytes": counted_bytes}).encode())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        note.unlink(missing_ok=True)


def _noted(folder: Path) -> tuple[str | None, int]:
    """The tree that is noted, and its bytes: None once it is gone. A note that nobody can read is none."""
    try:
        with (folder / NOTE).open("rb") as file:
            told = json.loads(file.read(MAX_NOTE_BYTES))
        tree, counted_bytes = str(told["tree"]), int(told["bytes"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None, 0
    return tree, counted_bytes if (folder / tree).is_dir() else 0


def _walked(folder: Path, *, leave_out: str | None) -> int:
    """A file that has two names, as one that is being published has for a moment, counts once."""
    total, seen = 0, set[int]()
    waiting = [os.fspath(folder)]
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.path == leave_out:
                    continue
                with suppress(FileNotFoundError):  # it was renamed or removed meanwhile
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink == 1 or found.st_ino not in seen:
                        total += found.st_blocks * DISK_BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif found.st_nlink > 1:
                        seen.add(found.st_ino)
    return total
