"""The form of an archive: JSON lines, UTF-8, one newline after each.

| line | is |
| --- | --- |
| first | `{"format":"dpn-registry","version":1,"node":…,"registry":…,"time":…}`: who wrote it, of whose registry |
| records | `{"kind":"bag","record":{…}}`, in wire form: kinds in order of reference, each in order of its keys |
| extensions | `{"kind":"member_source","record":{"member_id":…,"peer":…}}`, right after the member's line |
| last | `{"end":{"counts":{…},"sha256":…}}`: lines of each kind, the SHA-256 of all bytes before this line |

Extensions say what nodes do not tell each other. The same registry gives the same lines, but for the first one's
time and the sum that covers it. Tokens are in no line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dpn.errors import PermanentError
from dpn.registry.catalogue import KINDS, Kind
from dpn.registry.records import Record
from dpn.registry.wire import format_instant

FORMAT = "dpn-registry"
VERSION = 1

MEMBER_SOURCE = "member_source"

MAX_LINE_BYTES = 1024 * 1024
"""The longest record that the wire's own limits allow has half of it."""

KIND_NAMES = tuple(kind.name for kind in KINDS)

TAKE_ANOTHER = "the file is damaged or was changed: take another copy or export anew"


class BrokenArchive(PermanentError):
    """A file that is no archive, not a whole one, or not one that this software understands. Says where, and what
    to do."""

    def __init__(self, line: int, problem: str, remedy: str = TAKE_ANOTHER) -> None:
        super().__init__(f"line {line}: {problem}; nothing of a file with a flaw is imported: {remedy}")
        self.line = line


@dataclass(frozen=True)
class ArchiveHeader:
    """Who wrote the archive, whose registry it shows (its own or a peer's), and when."""

    node: str
    registry: str
    time: datetime

    def to_line(self) -> bytes:
        values = {"node": self.node, "registry": self.registry, "time": format_instant(self.time)}
        return _line({"format": FORMAT, "version": VERSION, **values})


@dataclass(frozen=True)
class ArchivedRecord:
    """One record of an archive. `source` is the peer that told the archive's registry of it: for members only."""

    line: int
    size: int
    """Bytes of its line."""

    kind: Kind[Any]
    record: Record
    source: str | None = None


def record_line(kind: str, record: Record) -> bytes:
    """A record's line."""
    return b'{"kind":"%s","record":%s}\n' % (kind.encode(), record.model_dump_json().encode())


def source_line(member_id: str, peer: str) -> bytes:
    """The line that says which peer told of the member."""
    return _line({"kind": MEMBER_SOURCE, "record": {"member_id": member_id, "peer": peer}})


def last_line(counts: Mapping[str, int], sha256: str) -> bytes:
    """The line that tells a whole file from a part of it."""
    return _line({"end": {"counts": dict(counts), "sha256": sha256}})


def no_counts() -> dict[str, int]:
    """Of lines, for every kind that there is."""
    return dict.fromkeys((*KIND_NAMES, MEMBER_SOURCE), 0)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
