"""Reads an archive, believing none of it: every line has the form, order, counts and sum that it should have.

Whoever wants to act on a whole archive only reads it twice: the first time to its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NamedTuple

from dpn.registry import strict_json
from dpn.registry.archive.lines import (
    FORMAT,
    KIND_NAMES,
    MAX_LINE_BYTES,
    MEMBER_SOURCE,
    TAKE_ANOTHER,
    VERSION,
    ArchivedRecord,
    ArchiveHeader,
    BrokenArchive,
    no_counts,
)
from dpn.registry.catalogue import KINDS, MEMBERS
from dpn.registry.records import InvalidRecord
from dpn.registry.wire import parse_instant, parse_namespace

NO_ARCHIVE = "give a file that `dpn registry export` wrote"
UPGRADE = "upgrade this software first, or export with one of its version"

BY_NAME = {kind.name: kind for kind in KINDS}


class _Line(NamedTuple):
    number: int
    text: bytes
    value: dict[str, Any]


class _Place(NamedTuple):
    """Where in the archive's order a record stands."""

    kind: int
    key: tuple[str, ...]


@dataclass(frozen=True)
class ArchiveContents:
    """What a whole archive holds: lines by kind."""

    header: ArchiveHeader
    counts: dict[str, int]


def check(file: BinaryIO) -> ArchiveContents:
    """Reads the archive to its end. Raises BrokenArchive at the first flaw, OSError."""
    reader = ArchiveReader(file)
    for _ in reader.entries():
        pass
    return ArchiveContents(reader.header, reader.counts)


class ArchiveReader:
    """One pass over an archive, from the file's beginning, in memory for a line or two.

    Raises BrokenArchive for a header that is none.
    """

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self._sha256 = hashlib.sha256()
        self._lines = self._read_lines()
        self.counts = no_counts()
        first = next(self._lines)
        self.header = _header(first)
        self._sha256.update(first.text)

    def entries(self) -> Iterator[ArchivedRecord]:
        """The records in their order. Raises BrokenArchive at the first flaw."""
        member: ArchivedRecord | None = None
        last = _Place(-1, ())
        for line in self._lines:
            if "end" in line.value:
                self._end(line)
                break
            self._sha256.update(line.text)
            kind = _kind_of(line)
            self.counts[kind] += 1
            if kind == MEMBER_SOURCE:
                member = _with_source(line, member)
                continue
            if member is not None:
                yield member
                member = None
            entry = _entry(line, kind)
            last = _next_place(entry, last)
            if entry.kind is MEMBERS:
                member = entry  # its source, if it has one, is in the next line
            else:
                yield entry
        if member is not None:
            yield member

    def _read_lines(self) -> Iterator[_Line]:
        number = 0
        while text := self._file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(text) > MAX_LINE_BYTES:
                raise BrokenArchive(number, f"more than {MAX_LINE_BYTES} bytes in one line")
            if not text.endswith(b"\n"):
                raise BrokenArchive(number, "the file ends within this line")
            yield _Line(number, text, _object(number, text))
        raise BrokenArchive(number + 1, "the file ends here, without the last line of an archive")

    def _end(self, line: _Line) -> None:
        expected = {"counts": self.counts, "sha256": self._sha256.hexdigest()}
        end = line.value["end"]
        if not isinstance(end, dict) or end.get("counts") != expected["counts"]:
            raise BrokenArchive(line.number, f"there are other lines before it than it counts: {self.counts}")
        if end != expected:
            raise BrokenArchive(line.number, "the SHA-256 of the lines before it is not the one that it tells")
        if self._file.read(1):
            raise BrokenArchive(line.number + 1, "something follows the last line")


def _object(number: int, text: bytes) -> dict[str, Any]:
    try:
        value = strict_json.parse(text)
    except strict_json.BrokenJson as error:
        raise BrokenArchive(number, str(error), NO_ARCHIVE if number == 1 else TAKE_ANOTHER) from error
    if flaw := strict_json.flaw_of(value):
        raise BrokenArchive(number, flaw)
    if not isinstance(value, dict):
        raise BrokenArchive(number, f"a JSON object is needed, not {type(value).__name__}")
    return value


def _header(line: _Line) -> ArchiveHeader:
    values = line.value
    version = values.get("version")
    if values.get("format") != FORMAT or type(version) is not int or version < 1:
        raise BrokenArchive(1, f'it does not begin with {{"format":"{FORMAT}",…}}', NO_ARCHIVE)
    if version > VERSION:
        raise BrokenArchive(1, f"format version {version} is newer than {VERSION}, the newest known here", UPGRADE)
    try:
        node, registry = (parse_namespace(_text(values, name)) for name in ("node", "registry"))
        return ArchiveHeader(node, registry, parse_instant(values.get("time")))
    except ValueError as error:
        raise BrokenArchive(1, str(error)) from error


def _kind_of(line: _Line) -> str:
    kind = line.value.get("kind")
    if kind in KIND_NAMES or kind == MEMBER_SOURCE:
        return str(kind)
    named = repr(kind)[:80]
    raise BrokenArchive(line.number, f"{named} is no kind of record that this software knows", UPGRADE)


def _entry(line: _Line, name: str) -> ArchivedRecord:
    kind = BY_NAME[name]
    try:
        record = kind.record.from_wire(line.value.get("record"))
    except InvalidRecord as error:
        raise BrokenArchive(line.number, f"no {name} record: {error}") from error
    return ArchivedRecord(line.number, len(line.text), kind, record)


def _with_source(line: _Line, member: ArchivedRecord | None) -> ArchivedRecord:
    values = line.value.get("record")
    if member is None or member.source is not None:
        raise BrokenArchive(line.number, f"a {MEMBER_SOURCE} that does not follow its member")
    try:
        if not isinstance(values, dict) or (_text(values, "member_id"),) != member.record.key:
            raise ValueError("it is of another member than the line before it")
        return replace(member, source=parse_namespace(_text(values, "peer")))
    except ValueError as error:
        raise BrokenArchive(line.number, f"no {MEMBER_SOURCE}: {error}") from error


def _next_place(entry: ArchivedRecord, last: _Place) -> _Place:
    place = _Place(KIND_NAMES.index(entry.kind.name), entry.record.key)
    if place <= last:
        raise BrokenArchive(entry.line, "out of order, or the same record once more")
    return place


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: a text is needed")
    return value
