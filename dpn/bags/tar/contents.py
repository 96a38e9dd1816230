"""Reads a bag in an uncompressed tar, in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from dpn.bags.building.entries import Content, SliceContent
from dpn.bags.digests import Column, DigestTable
from dpn.bags.findings import Findings
from dpn.bags.hash_threads import READ_BYTES, Progress, Workers
from dpn.bags.index import PAYLOAD_PREFIX, FileIndex, TooManyEntries
from dpn.bags.manifest_names import manifest_algorithms
from dpn.bags.names import UNSAFE, faults
from dpn.bags.tar.empty_folders import EmptyFolders
from dpn.bags.tar.file import TarFile
from dpn.bags.tar.headers import BLOCK_BYTES
from dpn.bags.tar.parallel_reader import ParallelReader
from dpn.bags.tar.reader import ZEROS, TarReader
from dpn.bags.tar.stream_reader import StreamReader
from dpn.bags.tar.walk import TarMember, TarWalk

_NAME_FIELD_BYTES = 100
_MANIFEST_STEM = b"manifest-"


class TarContents:
    """A bag in a tar. `read` reads it; afterwards its files can be asked for."""

    serialized = True

    def __init__(
        self,
        tar: TarFile,
        findings: Findings,
        *,
        max_entries: int,
        threads: int,
        progress: Progress,
        algorithms: tuple[set[str], set[str]] | None = None,
    ) -> None:
        """`algorithms`: what payload and tag manifests are known to ask for; None: that is guessed."""
        self._tar = tar
        self._findings = findings
        self._threads = threads
        self._progress = progress
        payload, tags = algorithms or guess_algorithms(tar)
        self.index = FileIndex(findings, DigestTable(payload, tags), max_entries)
        self.expected_name = tar.path.name.removesuffix(".tar")
        self.complete = False
        self.sha256: str | None = None
        self._root: bytes | None = None
        self._prefix = b"/"
        self._said_dot = False
        self._empty: EmptyFolders | None = None

    def read(self, *, whole_file_sha256: bool = False) -> None:
        """Walk and hash everything. Raises NotABag if this is no tar, OSError, BagChanged, Interrupted."""
        self._tar.require_tar()
        if whole_file_sha256:
            columns = self.index.digests.columns()
            with StreamReader(self._tar, columns, self._threads, self._progress) as stream:
                self._walk(stream)
            self.sha256 = stream.sha256 if self.complete else None
        else:
            with ParallelReader(self._tar, self._threads, self._progress) as parallel:
                self._walk(parallel)

    def files(self) -> Iterator[tuple[int, bytes, Content]]:
        """Instead of `read`: number, name and content of each file, for who reads them himself and puts their
        digests into the index's columns before he asks for the next one. Raises NotABag if this is no tar."""
        self._tar.require_tar()
        self._empty = EmptyFolders()
        walk = TarWalk(self._tar, self._findings, when_hard_link=self._note_hard_link)
        try:
            for member in walk:
                self._progress.tick()
                numbered = self._numbered(member)
                if numbered is not None:
                    self._empty.note_file(numbered[1])
                    where = f"{self._tar.path}: {numbered[1].decode('utf-8', 'backslashreplace')}"
                    yield *numbered, SliceContent(self._tar.fd, member.offset, member.size, where)
        except TooManyEntries:
            return
        if walk.complete:
            rest = self._tar.chunks(walk.end, self._tar.size - walk.end)
            if any(chunk != ZEROS[: len(chunk)] for chunk in rest):
                self._say_trailing(walk.end)
            self.complete = True

    def empty_folders(self) -> Iterator[bytes]:
        """After `files`: names of the payload's folders with nothing in them."""
        for place in self._empty.places() if self._empty is not None else ():
            yield self._relative(self._member_at(place).name)[1]

    @property
    def name(self) -> str:
        return (self._root or b"").decode("utf-8", "backslashreplace")

    def name_of(self, number: int) -> bytes:
        """From the tar itself: long names are not kept in memory."""
        self._progress.tick()
        return self._relative(self._member(number).name)[1]

    def chunks(self, number: int) -> Iterator[bytes]:
        member = self._member(number)
        for chunk in self._tar.chunks(member.offset, member.size):
            self._progress.tick()
            yield chunk

    def compute(self, column: Column, numbers: Iterable[int]) -> None:
        with Workers(self._threads, self._progress) as workers:
            for number in numbers:
                workers.submit(partial(self._hash, column, number))
            workers.finish()

    def check_unchanged(self) -> None:
        self._tar.check_unchanged()

    def _hash(self, column: Column, number: int) -> None:
        hasher, member = column.new(), self._member(number)
        for chunk in self._tar.chunks(member.offset, member.size):
            hasher.update(chunk)
            self._progress.add(0)
        column.put(number, hasher.digest())

    def _member(self, number: int) -> TarMember:
        return self._member_at(self.index.places[number])

    def _member_at(self, place: int) -> TarMember:
        for member in TarWalk(self._tar, Findings(), place):
            return member
        raise self._tar.changed()

    def _walk(self, reader: TarReader) -> None:
        walk = TarWalk(reader, self._findings, when_hard_link=self._note_hard_link)
        try:
            for member in walk:
                self._add(member, reader)
        except TooManyEntries:
            return
        if not walk.complete:
            return
        if not reader.finish(walk.end):
            self._say_trailing(walk.end)
        self.complete = True

    def _add(self, member: TarMember, reader: TarReader) -> None:
        numbered = self._numbered(member)
        if numbered is not None:
            index, number = self.index, numbered[0]
            columns = index.digests.payload if index.is_payload[number] else index.digests.tags
            reader.hash_file(number, member.offset, member.size, columns)

    def _numbered(self, member: TarMember) -> tuple[int, bytes] | None:
        """A file's number and name; None for what is no file of the bag."""
        if member.name.startswith(self._prefix):
            name = member.name[len(self._prefix) :]
        else:
            name = self._below_root(member)
        if not name:
            return None
        if not member.is_file:
            if self._empty is not None and name.startswith(PAYLOAD_PREFIX):
                self._empty.note_folder(name, member.header, is_known=self.index.has_folder(name))
            self.index.add_folder(name)
            return None
        number = self.index.add_file(name, member.header, member.size)
        return None if number is None else (number, name)

    def _note_hard_link(self, name: bytes) -> None:
        self.index.add_hard_link(self._relative(name)[1])

    def _say_trailing(self, end: int) -> None:
        self._findings.add("tar-trailing-data", f"After the archive's end at byte {end:,}.")

    def _below_root(self, member: TarMember) -> bytes:
        """The name below the bag's folder, which the first member names; empty if there is none."""
        if member.name.startswith(b"./") or member.name == b".":
            self._say_dot()
        unsafe = [fault for fault in faults(_without_dot(member.name)) if fault[0] in UNSAFE]
        if member.name == b"." or unsafe:
            for code, message in unsafe:
                self._findings.add(code, message, member.name)
            return b""
        root, name = self._relative(member.name)
        if self._root is None and (name or not member.is_file):
            self._begin(root)
        if root != self._root or (member.is_file and not name):
            self._findings.add("tar-several-roots", "Not in the bag's top-level folder.", member.name)
            return b""
        return name

    def _relative(self, name: bytes) -> tuple[bytes, bytes]:
        root, _, rest = _without_dot(name).partition(b"/")
        return root, rest

    def _begin(self, root: bytes) -> None:
        self._root = root
        self._prefix = root + b"/"
        for code, message in faults(root, of_folder=True):
            self._findings.add(code, message, root)

    def _say_dot(self) -> None:
        if not self._said_dot:
            self._findings.add("name-dot-prefix", "Member names begin with './'.")
            self._said_dot = True


def guess_algorithms(tar: TarFile) -> tuple[set[str], set[str]]:
    """Which algorithms the bag's manifests will ask for, by the headers near the tar's two ends.

    Only a guess: what it misses costs a second reading of those files, nothing else.
    """
    return manifest_algorithms(_names_near_the_ends(tar))


def _names_near_the_ends(tar: TarFile) -> Iterator[bytes]:
    for offset in (0, max(0, (tar.size - READ_BYTES) // BLOCK_BYTES * BLOCK_BYTES)):
        data = tar.read(offset, READ_BYTES)
        at = data.find(_MANIFEST_STEM)
        while at >= 0:
            start = at // BLOCK_BYTES * BLOCK_BYTES
            name = data[start : start + _NAME_FIELD_BYTES].partition(b"\0")[0]
            yield _without_dot(name).partition(b"/")[2]
            at = data.find(_MANIFEST_STEM, start + BLOCK_BYTES)


def _without_dot(name: bytes) -> bytes:
    return name[2:] if name.startswith(b"./") else name
