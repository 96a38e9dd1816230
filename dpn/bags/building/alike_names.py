"""Names that a file system may hold to be one: they differ only in case or Unicode form. Told while a folder is
walked through, before anything is done with the second file.

Memory: none, unless two names in one folder are alike; from there on downwards some 80 bytes a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from dpn.bags.errors import UnfitEntry
from dpn.text import folded, normalized


def are_alike(names: Iterable[bytes]) -> bool:
    """Whether two of the names in one folder are."""
    seen = [folded(name) for name in names]
    return len(set(seen)) < len(seen)


class AlikeFiles:
    """The files below a folder in which two names are alike. Two folders may be called alike, two files not."""

    def __init__(self, top: bytes) -> None:
        self._top = top
        self._hashes: set[int] = set()

    def add(self, path: bytes) -> None:
        """Raises UnfitEntry if another one that was added is called alike; OSError."""
        key = hash(folded(path[len(self._top) :]))
        if key in self._hashes and (other := next(self._others(path), None)) is not None:
            raise UnfitEntry(
                os.fsdecode(path),
                f"its name differs from that of {_shown(other, path)} only in case or Unicode form, and many "
                "disks take both for one file. Rename one of them.",
                shown=_shown(path, other),
            )
        self._hashes.add(key)

    def _others(self, path: bytes) -> Iterator[bytes]:
        """Files on disk that are called alike."""
        *parts, last = path[len(self._top) :].strip(b"/").split(b"/")
        folders = [self._top]
        for part in parts:
            folders = [entry.path for entry in _alike(folders, part) if entry.is_dir(follow_symlinks=False)]
        for entry in _alike(folders, last):
            if entry.path != path and entry.is_file(follow_symlinks=False):
                yield entry.path


def _alike(folders: list[bytes], name: bytes) -> Iterator[os.DirEntry[bytes]]:
    for folder in folders:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if folded(entry.name) == folded(name))


def _shown(path: bytes, other: bytes) -> str:
    """As it is written; escaped, if both are written alike."""
    text = os.fsdecode(path)
    return ascii(text) if normalized(path) == normalized(other) else repr(text)
