"""What shall be bagged: every file of the sources with its name in the payload, in an order that never changes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dpn.bags.errors import SourceRefused
from dpn.bags.index import PAYLOAD_PREFIX
from dpn.bags.names import faults

_LOOKS_ENCODED = re.compile(rb"%0[ADad]")


class SourceEntry(NamedTuple):
    """A file, or a folder with nothing in it."""

    path: bytes
    name: bytes
    is_file: bool


def payload_entries(sources: Sequence[Path]) -> Iterator[SourceEntry]:
    """One folder: what is in it; several sources: each under its own name.

    Raises SourceRefused for links, devices, and names that another node would refuse; OSError.
    """
    if len(sources) == 1 and sources[0].is_dir():
        yield from _folder(os.fsencode(sources[0]), PAYLOAD_PREFIX)
        return
    names = [os.fsencode(source.resolve().name) for source in sources]
    for name in names:
        if names.count(name) > 1 or not name:
            raise SourceRefused(f"two sources are called {os.fsdecode(name)!r}: rename one")
    for name, source in sorted(zip(names, sources, strict=True)):
        yield from _entry(os.fsencode(source), PAYLOAD_PREFIX + name, os.lstat(source).st_mode)


def _folder(path: bytes, prefix: bytes) -> Iterator[SourceEntry]:
    with os.scandir(path) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    if not entries:
        yield SourceEntry(path, prefix.rstrip(b"/"), is_file=False)
    for entry in entries:
        yield from _entry(entry.path, prefix + entry.name, entry.stat(follow_symlinks=False).st_mode)


def _entry(path: bytes, name: bytes, mode: int) -> Iterator[SourceEntry]:
    for message in _complaints(name):
        raise SourceRefused(f"{os.fsdecode(path)!r} cannot be bagged: {message} Rename it.")
    if stat.S_ISDIR(mode):
        yield from _folder(path, name + b"/")
    elif stat.S_ISREG(mode):
        yield SourceEntry(path, name, is_file=True)
    else:
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
        raise SourceRefused(f"{os.fsdecode(path)!r} cannot be bagged: it is {kind}. Put the content in its place.")


def _complaints(name: bytes) -> Iterator[str]:
    """Faults of a name, and what is good in a bag but misread by validators in use."""
    yield from (message for _, message in faults(name))
    if name[-1:].isspace():
        yield "The name ends with white space, which others strip from a manifest's line."
    if _LOOKS_ENCODED.search(name):
        yield "The name has what others read as an encoded line break."
