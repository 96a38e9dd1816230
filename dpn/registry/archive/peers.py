"""Writes what a peer's registry shows into an archive, whoever's records they are: our own come back this way.

A peer's lists move while they are read. So the kinds are read in reverse order of reference (what a record that
was read refers to is there when its turn comes: nothing is ever deleted), and sorted on disk before they are
written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from dpn.errors import PeerRefused
from dpn.registry.archive.lines import KIND_NAMES, ArchiveHeader, record_line
from dpn.registry.archive.writer import ArchiveWriter
from dpn.registry.records import Record

if TYPE_CHECKING:
    from dpn.registry.client import RegistryClient, RejectedRecord

MAX_PROBLEMS_KEPT = 20

Pages: TypeAlias = "Iterable[Sequence[Record | RejectedRecord]]"

LISTS: dict[str, Callable[[RegistryClient], Pages]] = {
    "node": lambda client: client.list_nodes(),
    "member": lambda client: client.list_members(),
    "bag": lambda client: client.list_bags(),
    "digest": lambda client: client.list_digests(),
    "ingest": lambda client: client.list_ingests(),
    "fixity_check": lambda client: client.list_fixity_checks(),
    "replicate": lambda client: client.list_transfers(),
    "restore": lambda client: client.list_restores(),
}


@dataclass
class PeerExport:
    """What was written, and what the peer shows but could not be: the number, and the first few reasons."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: int = 0
    reasons: list[str] = field(default_factory=list)

    def add_problem(self, reason: str) -> None:
        self.problems += 1
        if len(self.reasons) < MAX_PROBLEMS_KEPT:
            self.reasons.append(reason)


def export_from_peer(client: RegistryClient, file: BinaryIO, *, node: str, now: datetime) -> PeerExport:
    """Reads all that `client`'s registry shows to the node `node` and writes it in the order of an archive.

    Raises PeerUnavailable and Misconfigured as the client does, OSError. A list that the peer refuses to show is a
    problem of that list.
    """
    done = PeerExport()
    with closing(_Sorter()) as sorter:
        for kind in reversed(KIND_NAMES):
            try:
                for page in LISTS[kind](client):
                    sorter.add(kind, [row for row in page if isinstance(row, Record)])
                    for row in page:
                        if not isinstance(row, Record):
                            done.add_problem(f"{row.kind}: {row.reason}: {row.raw}")
            except PeerRefused as error:
                done.add_problem(f"{kind}: {error}")
        writer = ArchiveWriter(file, ArchiveHeader(node, client.peer, now))
        for kind in KIND_NAMES:
            for line in sorter.lines(kind):
                writer.add_line(kind, line)
        writer.end()
    done.counts = writer.counts
    return done


class _Sorter:
    """Records by kind and key, in a nameless temporary database on disk; of one read twice, the later counts."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE lines (kind, key, line, PRIMARY KEY (kind, key)) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, kind: str, records: Iterable[Record]) -> None:
        # NUL sorts before all that a key may hold, so that joined keys sort as the tuples do.
        rows: list[tuple[Any, ...]] = [
            (kind, "\0".join(record.key), record_line(kind, record)) for record in records
        ]
        self._database.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", rows)

    def lines(self, kind: str) -> Iterator[bytes]:
        for (line,) in self._database.execute("SELECT line FROM lines WHERE kind = ? ORDER BY key", (kind,)):
            yield line

    def close(self) -> None:
        self._database.close()
