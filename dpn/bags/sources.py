"""What lies on disk and shall be bagged: every file with its name in the payload, always in the same order."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from dpn.bags.entries import NO_CLAIMS, Claims, Entry, FileContent, changed
from dpn.bags.errors import SourceRefused
from dpn.bags.index import PAYLOAD_PREFIX
from dpn.bags.names import faults, is_plain

_by_name = attrgetter("name")
_LOOKS_ENCODED = re.compile(rb"%0[ADad]")

ClaimsOf = Callable[[bytes], Claims]


def payload_entries(sources: Sequence[Path]) -> Iterator[Entry]:
    """One folder: what is in it; several sources: each under its own name.

    Raises SourceRefused for links and devices; OSError.
    """
    if len(sources) == 1 and sources[0].is_dir():
        yield from folder_entries(sources[0])
        return
    names = [os.fsencode(source.resolve().name) for source in sources]
    for name in names:
        if names.count(name) > 1 or not name:
            raise SourceRefused(f"two sources are called {os.fsdecode(name)!r}: rename one")
    for name, source in sorted(zip(names, sources, strict=True)):
        path, as_payload = os.fsencode(source), PAYLOAD_PREFIX + name
        if source.is_symlink():
            raise _unfit(path, is_link=True)
        if source.is_dir():
            yield from _Walk(None).run(path, as_payload + b"/")
        elif source.is_file():
            yield Entry(as_payload, FileContent(path))
        else:
            raise _unfit(path, is_link=False)


def folder_entries(folder: Path, claims_of: ClaimsOf | None = None) -> Iterator[Entry]:
    """All that is in a folder, as payload; `claims_of` knows what is claimed of a file by its name in the payload.

    Raises SourceRefused for links and devices, BagChanged if files came or went meanwhile; OSError.
    """
    return _Walk(claims_of).run(os.fsencode(folder), PAYLOAD_PREFIX)


def is_plainly_fit(name: bytes) -> bool:
    """True only for names that no node refuses; decides that for nearly all names, and at once."""
    return is_plain(name) and name[-1:] != b" " and b"%" not in name


def refuse_unfit_name(name: bytes, where: str) -> None:
    """Raises SourceRefused for a name that another node would refuse, or misread."""
    for message in _complaints(name):
        raise SourceRefused(f"{where!r} cannot be bagged: {message} Rename it.")


class _Walk:
    """Through a folder, each folder's entries in the order of their names."""

    def __init__(self, claims_of: ClaimsOf | None) -> None:
        self._claims_of = claims_of
        self._seen: list[tuple[bytes, int]] = []

    def run(self, path: bytes, prefix: bytes) -> Iterator[Entry]:
        yield from self._folder(path, prefix)
        for folder, modified_ns in self._seen:
            if _modified_ns(folder) != modified_ns:
                raise changed(os.fsdecode(folder))

    def _folder(self, path: bytes, prefix: bytes) -> Iterator[Entry]:
        refuse_unfit_name(prefix.rstrip(b"/"), os.fsdecode(path))
        self._seen.append((path, _modified_ns(path)))
        with os.scandir(path) as scan:
            entries = sorted(scan, key=_by_name)
        if not entries:
            yield Entry(prefix.rstrip(b"/"), None)
        for entry in entries:
            name = prefix + entry.name
            if entry.is_file(follow_symlinks=False):
                claims = self._claims_of(name[len(PAYLOAD_PREFIX) :]) if self._claims_of else NO_CLAIMS
                yield Entry(name, FileContent(entry.path), claims)
            elif entry.is_dir(follow_symlinks=False):
                yield from self._folder(entry.path, name + b"/")
            else:
                raise _unfit(entry.path, is_link=entry.is_symlink())


def _modified_ns(folder: bytes) -> int:
    try:
        return os.lstat(folder).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        raise changed(os.fsdecode(folder)) from None


def _unfit(path: bytes, *, is_link: bool) -> SourceRefused:
    kind = "a symbolic link" if is_link else "neither a file nor a folder"
    return SourceRefused(f"{os.fsdecode(path)!r} cannot be bagged: it is {kind}. Put the content in its place.")


def _complaints(name: bytes) -> Iterator[str]:
    """Faults of a name, and what is good in a bag but misread by validators in use."""
    yield from (message for _, message in faults(name))
    if name[-1:].isspace():
        yield "The name ends with white space, which others strip from a manifest's line."
    if _LOOKS_ENCODED.search(name):
        yield "The name has what others read as an encoded line break."
