"""Writes an archive line by line, in bounded memory."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from dpn.registry.archive.lines import (
    MEMBER_SOURCE,
    ArchiveHeader,
    last_line,
    no_counts,
    record_line,
    source_line,
)
from dpn.registry.records import MemberRecord, Record


class ArchiveWriter:
    """Begins with the header; the caller adds records in the archive's order and then ends it."""

    def __init__(self, file: BinaryIO, header: ArchiveHeader) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.counts = no_counts()
        self._write(header.to_line())

    def add(self, kind: str, record: Record) -> None:
        """Adds a record that can be written. Raises pydantic's PydanticSerializationError for any other."""
        self._write(record_line(kind, record))
        self.counts[kind] += 1

    def add_source(self, member: MemberRecord, peer: str) -> None:
        """Says which peer told of the member that was just added."""
        self._write(source_line(member.member_id, peer))
        self.counts[MEMBER_SOURCE] += 1

    def add_line(self, kind: str, line: bytes) -> None:
        """Adds a record's line as `record_line` made it."""
        self._write(line)
        self.counts[kind] += 1

    def end(self) -> None:
        """Writes the last line, without which the archive is none."""
        self._file.write(last_line(self.counts, self._sha256.hexdigest()))

    def _write(self, line: bytes) -> None:
        self._sha256.update(line)
        self._file.write(line)
