"""What a bag holds, read once: every file's name, size and digests, from a tar in place or from a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from dpn.bags.digests import Column
from dpn.bags.index import FileIndex


class Contents(Protocol):
    """A bag that was read. Numbers are the index's; reading a file again raises OSError or BagChanged."""

    @property
    def name(self) -> str:
        """Of the base directory."""
        ...

    expected_name: str
    """What the base directory should be called: a tar's file name without '.tar', a folder's own."""
    serialized: bool
    complete: bool
    """False if reading had to stop, so that what is missing was perhaps only not reached."""
    index: FileIndex
    sha256: str | None
    """Of the whole tar, if asked for and read to its end."""

    def name_of(self, number: int) -> bytes: ...

    def chunks(self, number: int) -> Iterator[bytes]:
        """A file's bytes, at most 1 MiB at a time."""
        ...

    def compute(self, column: Column, numbers: Iterable[int]) -> None:
        """Put the digests of these files into the column: the second reading for an algorithm found too late."""
        ...

    def check_unchanged(self) -> None:
        """Raises BagChanged if anything was written to since reading began."""
        ...
