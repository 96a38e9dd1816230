"""Names and sizes of all that is in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dpn.cancellation import Cancellation


def folder_sizes(folder: Path, cancellation: Cancellation) -> Iterator[tuple[bytes, int]]:
    """Every file and folder, by its name within `folder`; no link is followed. Raises OSError."""
    base = os.fsencode(folder)
    waiting = [base]
    while waiting:
        cancellation.check()
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                size = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                yield entry.path[len(base) + 1 :], size
                if is_folder:
                    waiting.append(entry.path)
