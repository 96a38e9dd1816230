"""What lies on disk and shall be bagged: every file with its name in the payload, always in the same order."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from os.path import samestat
from pathlib import Path
from typing import NamedTuple

from dpn.bags.building.alike_names import AlikeFiles, are_alike
from dpn.bags.building.entries import NO_CLAIMS, Claims, Entry, FileContent, changed
from dpn.bags.errors import SourceRefused, UnfitEntry
from dpn.bags.index import PAYLOAD_PREFIX
from dpn.bags.names import faults, own_faults
from dpn.cancellation import Cancellation

_by_name = attrgetter("name")

ClaimsOf = Callable[[bytes], Claims]


def payload_entries(
    sources: Sequence[Path], cancellation: Cancellation | None = None, *, alike_names: bool = False
) -> Iterator[Entry]:
    """One folder: what is in it; several sources: each under its own name.

    Raises as `folder_entries`.
    """
    walk = _Walk(None, cancellation, alike_names=alike_names)
    yield from _entries(walk, sources)
    walk.check_unchanged()


def unfit_entries(
    sources: Sequence[Path], cancellation: Cancellation | None = None, *, alike_names: bool = False
) -> Iterator[UnfitEntry]:
    """Every file and folder for which `payload_entries` or the builder would raise, one after the other; nothing
    is read but names. Raises SourceRefused for sources with nothing to bag or of one name, OSError."""
    unfit: list[UnfitEntry] = []
    walk, is_empty = _Walk(None, cancellation, alike_names=alike_names, refuse=unfit.append), True
    for entry in _entries(walk, sources):
        if entry.content is not None:
            is_empty = False
            unfit += _unfit_names(own_faults(entry.name), entry.content.where)
        yield from unfit
        unfit.clear()
    yield from unfit
    if is_empty and not unfit:
        raise nothing_in(", ".join(map(str, sources)))


def nothing_in(what: str) -> SourceRefused:
    """The error for sources without a file."""
    return SourceRefused(f"there is no file in {what}: an empty bag keeps nothing")


def _entries(walk: _Walk, sources: Sequence[Path]) -> Iterator[Entry]:
    if len(sources) == 1 and sources[0].is_dir():
        yield from walk.folder(os.fsencode(sources[0]), PAYLOAD_PREFIX)
        return
    names = [os.fsencode(source.resolve().name) for source in sources]
    for name in names:
        if names.count(name) > 1 or not name:
            raise SourceRefused(f"two sources are called {os.fsdecode(name)!r}: rename one")
    for name, source in sorted(zip(names, sources, strict=True)):
        path, as_payload = os.fsencode(source), PAYLOAD_PREFIX + name
        if source.is_symlink():
            walk.refuse(_unfit(path, is_link=True))
        elif source.is_dir():
            yield from walk.folder(path, as_payload + b"/")
        elif source.is_file():
            yield from walk.file(path, as_payload)
        else:
            walk.refuse(_unfit(path, is_link=False))


def folder_entries(
    folder: Path,
    claims_of: ClaimsOf | None = None,
    cancellation: Cancellation | None = None,
    *,
    alike_names: bool = False,
) -> Iterator[Entry]:
    """All that is in a folder, as payload; `claims_of` knows what is claimed of a file by its name in the payload.

    After the last one all of them are looked at again: what was bagged is the folder as it was at one moment, or
    no bag. Raises UnfitEntry for links and devices, and unless `alike_names` may be, for names that differ only
    in case or Unicode form; BagChanged if files came or went or were written to meanwhile, what `cancellation` was
    given; OSError.
    """
    walk = _Walk(claims_of, cancellation, alike_names=alike_names)
    yield from walk.folder(os.fsencode(folder), PAYLOAD_PREFIX)
    walk.check_unchanged()


def refuse_to_build_within(sources: Iterable[Path], out_dir: Path) -> None:
    """Raises SourceRefused if `out_dir` is one of the sources or lies in one, by whatever name: the bag would hold
    its own beginning. OSError."""
    folder = out_dir.resolve()
    above = [path.stat() for path in (folder, *folder.parents) if path.exists()]
    for source in sources:
        if source.is_dir() and any(samestat(source.stat(), one) for one in above):
            raise SourceRefused(f"{out_dir} lies in {source}, which is to be bagged: let the bag appear elsewhere")


def refuse_unfit_name(name: bytes, where: str, *, of_folder: bool = False) -> None:
    """Raises UnfitEntry for a name that another node would refuse, or misread."""
    for unfit in _unfit_names(faults(name, of_folder=of_folder), where):
        raise unfit


def _unfit_names(found: Iterable[tuple[str, str]], where: str) -> Iterator[UnfitEntry]:
    return (UnfitEntry(where, f"{message} Rename it.") for _, message in found)


def _raise(unfit: UnfitEntry) -> None:
    raise unfit


class _Folder(NamedTuple):
    """A folder that was walked through, as it was when its files were read; 16 bytes a file."""

    path: bytes
    modified_ns: int
    files: array[int]
    """Size and time of change of each file in it, in the order of their names."""


class _Walk:
    """Through folders, each folder's entries in the order of their names."""

    def __init__(
        self,
        claims_of: ClaimsOf | None,
        cancellation: Cancellation | None,
        *,
        alike_names: bool,
        refuse: Callable[[UnfitEntry], None] = _raise,
    ) -> None:
        """`refuse` is told of what cannot be bagged, and may raise it; else it is left out."""
        self.refuse = refuse
        self._claims_of = claims_of
        self._cancellation = cancellation or Cancellation()
        self._alike_names = alike_names
        self._folders: list[_Folder] = []
        self._files: list[FileContent] = []

    def file(self, path: bytes, name: bytes) -> Iterator[Entry]:
        """One that was named by itself, in whatever folder."""
        content = FileContent(path, compared_later=True)
        self._files.append(content)
        yield Entry(name, content)

    def folder(self, path: bytes, prefix: bytes, alike: AlikeFiles | None = None) -> Iterator[Entry]:
        """All that is in it. `alike` knows the files that another one here may be called like."""
        self._cancellation.check()
        for unfit in _unfit_names(own_faults(prefix.rstrip(b"/"), of_folder=True), os.fsdecode(path)):
            self.refuse(unfit)
        files = array("q")
        self._folders.append(_Folder(path, _modified_ns(path), files))
        entries = _listed(path)
        if not entries:
            yield Entry(prefix.rstrip(b"/"), None)
        if alike is None and not self._alike_names and are_alike(entry.name for entry in entries):
            alike = AlikeFiles(path)
        for entry in entries:
            name = prefix + entry.name
            if entry.is_file(follow_symlinks=False):
                if alike is not None:
                    self._add_alike(alike, entry.path)
                claims = self._claims_of(name[len(PAYLOAD_PREFIX) :]) if self._claims_of else NO_CLAIMS
                content = FileContent(entry.path, compared_later=True)
                yield Entry(name, content, claims)
                files.extend(content.opened_as or _size_and_time(entry))
            elif entry.is_dir(follow_symlinks=False):
                yield from self.folder(entry.path, name + b"/", alike)
            else:
                self.refuse(_unfit(entry.path, is_link=entry.is_symlink()))

    def _add_alike(self, alike: AlikeFiles, path: bytes) -> None:
        try:
            alike.add(path)
        except UnfitEntry as unfit:
            self.refuse(unfit)

    def check_unchanged(self) -> None:
        """All are as they were when they were read: then all were so when the last one had been read.

        What a write leaves as it was, size and time, is not seen: the file systems' clocks tick every few
        milliseconds, and a program may set the time back. Raises BagChanged.
        """
        for folder in self._folders:
            self._check_unchanged(folder)
        for content in self._files:
            if content.opened_as not in (None, _size_and_time(Path(content.where))):
                raise changed(content.where)

    def _check_unchanged(self, folder: _Folder) -> None:
        if _modified_ns(folder.path) != folder.modified_ns:
            raise changed(os.fsdecode(folder.path))
        numbers = iter(folder.files)
        before = zip(numbers, numbers, strict=True)
        for entry in _listed(folder.path):
            self._cancellation.check()
            if entry.is_file(follow_symlinks=False) and _size_and_time(entry) != next(before, None):
                raise changed(os.fsdecode(entry.path))
        if next(before, None) is not None:
            raise changed(os.fsdecode(folder.path))


def _listed(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=_by_name)


def _size_and_time(file: os.DirEntry[bytes] | Path) -> tuple[int, int]:
    try:
        status = file.stat(follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        raise changed(os.fsdecode(file)) from None
    return status.st_size, status.st_mtime_ns


def _modified_ns(folder: bytes) -> int:
    try:
        return os.lstat(folder).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        raise changed(os.fsdecode(folder)) from None


def _unfit(path: bytes, *, is_link: bool) -> UnfitEntry:
    kind = "a symbolic link" if is_link else "neither a file nor a folder"
    return UnfitEntry(os.fsdecode(path), f"it is {kind}. Put the content in its place.")
