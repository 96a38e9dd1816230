"""A bag, of any kind that BagIt knows, as the source of another: its files are read once, copied and judged.

Nothing is unpacked. Which files a bag has is learned from its folders or tar headers; what its manifests say of
them is held against the digests of the reading that copied them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dpn.bags.building.entries import NO_CLAIMS, Claims, Digests, Entry
from dpn.bags.codes import Severity
from dpn.bags.digests import Column
from dpn.bags.errors import SourceRefused, UnfitEntry
from dpn.bags.findings import Findings
from dpn.bags.folder_contents import FolderContents
from dpn.bags.hash_threads import Progress, default_threads
from dpn.bags.index import DEFAULT_MAX_ENTRIES
from dpn.bags.manifest_names import manifest_name
from dpn.bags.report import Report
from dpn.bags.tar.contents import TarContents
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.walk import TarWalk
from dpn.bags.validation.tags import DECLARATION
from dpn.bags.validation.validation import judge
from dpn.cancellation import Cancellation


class SourceBag:
    """One bag, open to be read once."""

    def __init__(self, path: Path, contents: FolderContents | TarContents, findings: Findings) -> None:
        self._path = path
        self._contents = contents
        self._findings = findings

    def entries(self, tags_folder: bytes, claims_of: Callable[[bytes], Claims] | None = None) -> Iterator[Entry]:
        """Its payload as payload, empty folders too; every other file below `tags_folder` (a slash at its end).

        `claims_of` knows what is claimed of a file beside what the bag's manifests say, by its name in the bag.
        Raises NotABag (a file that is no tar), OSError.
        """
        index = self._contents.index
        for number, name, content in self._contents.files():
            is_payload = index.is_payload[number]
            columns = index.digests.payload if is_payload else index.digests.tags
            yield Entry(
                name if is_payload else tags_folder + name,
                content,
                claims_of(name) if claims_of else NO_CLAIMS,
                tuple(column.algorithm for column in columns),
                partial(_put, columns, number),
            )
        for name in self._contents.empty_folders():
            yield Entry(name, None)

    def sizes(self) -> Iterator[tuple[bytes, bool, int]]:
        """Name, whether payload, and size of every file and empty folder; reads none of them. Raises as `entries`,
        and SourceRefused for two names that differ only in case or Unicode form."""
        index = self._contents.index
        for number, name, _ in self._contents.files():
            yield name, bool(index.is_payload[number]), index.sizes[number]
        for name in self._contents.empty_folders():
            yield name, True, 0
        self._refuse_alike_names()

    def unfit_entries(self, *, as_it_is: bool = False) -> Iterator[UnfitEntry]:
        """Every file and folder of the bag that no bag can hold; of one that is taken as it is, what makes it
        invalid. Nothing is read but names. Raises as `entries`."""
        for _ in self._contents.files():
            pass
        self._contents.index.report_conflicts(self._contents.name_of)
        for finding in self._findings.kept():
            is_refused = finding.code.startswith("name-") and finding.code != "name-dot-prefix" and not as_it_is
            if finding.severity is Severity.ERROR or is_refused:
                yield UnfitEntry(f"{self._path}: {finding.path or ''}", finding.message)

    def report(self) -> Report:
        """What BagIt's own rules say of the bag, once every entry was read. Raises OSError, BagChanged."""
        return judge(self._path, self._contents, None, self._findings)

    def _refuse_alike_names(self) -> None:
        self._contents.index.report_conflicts(self._contents.name_of)
        for finding in self._findings.kept():
            if finding.code == "name-clash":
                raise SourceRefused(
                    f"{self._path} cannot be bagged: {finding.path}: {finding.message} Rename one of them, in the "
                    "bag's manifests too."
                )


@contextmanager
def open_source_bag(
    path: Path,
    *,
    cancellation: Cancellation | None = None,
    max_entries: int = DEFAULT_MAX_ENTRIES,
    findings: Findings | None = None,
) -> Iterator[SourceBag]:
    """The bag in a folder or tar; what is wrong with it goes to `findings`. Raises NotABag, OSError."""
    findings = Findings() if findings is None else findings
    progress, threads = Progress(None, cancellation), default_threads()
    if path.is_dir():
        folder = FolderContents(path, findings, max_entries=max_entries, threads=threads, progress=progress)
        yield SourceBag(path, folder, findings)
        return
    with TarFile(path) as file:
        file.require_tar()
        tar = TarContents(file, findings, max_entries=max_entries, threads=threads, progress=progress)
        yield SourceBag(path, tar, findings)


def is_bag(folder: Path) -> bool:
    """Whether a folder says that it is a bag: by its bagit.txt."""
    return (folder / DECLARATION.decode()).is_file()


def root_tag_files(path: Path) -> Iterator[bytes]:
    """Names of the tag files that lie at the top of a bag, manifests not; of a tar as far as it can be read.

    Raises NotABag, OSError.
    """
    for name in _root_files(path):
        if manifest_name(name) is None:
            yield name


def _root_files(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        with os.scandir(os.fsencode(path)) as entries:
            yield from sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        return
    with TarFile(path) as tar:
        tar.require_tar()
        for member in TarWalk(tar, Findings()):
            name = member.name.removeprefix(b"./").partition(b"/")[2]
            if member.is_file and name and b"/" not in name:
                yield name


def _put(columns: tuple[Column, ...], number: int, digests: Digests) -> None:
    for column in columns:
        column.put(number, digests[column.algorithm])
