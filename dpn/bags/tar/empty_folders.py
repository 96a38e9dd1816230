"""Which folders of a bag in a tar have nothing in them, in whatever order its members come.

Memory does not grow with the length of names: some 150 bytes a folder of which it is not known yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


class EmptyFolders:
    """Is told of every member; names are relative to the bag."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._filled = b""

    def note_file(self, name: bytes) -> None:
        folder = name.rpartition(b"/")[0]
        if folder != self._filled:
            self._fill(folder)

    def note_folder(self, name: bytes, place: int, *, is_known: bool) -> None:
        """`place`, where it can be found again. `is_known`: it was told before, by itself or by what is in it."""
        self._fill(name.rpartition(b"/")[0])
        if not is_known:
            self._places[_key(name)] = place

    def places(self) -> Iterable[int]:
        """Of those that are empty, once all members were told, in their order."""
        return self._places.values()

    def _fill(self, folder: bytes) -> None:
        """It has something in it, and so have those that it lies in."""
        self._filled = folder
        while folder:
            self._places.pop(_key(folder), None)
            folder = folder.rpartition(b"/")[0]


def _key(name: bytes) -> bytes:
    return blake2b(name, digest_size=16).digest()
