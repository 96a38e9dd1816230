"""Merges an archive into our registry: in batches, each a transaction, in one direction only.

It may be killed at any moment and begun again: what was merged is found as it is, and nothing is taken back. Other
processes of the node may run meanwhile; a kind of record is theirs again after each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Table, select, text
from sqlalchemy.orm import Session

from dpn.database import Sessions, insert_missing, reading
from dpn.registry.archive.foreseen import FamilyPlace, ForeseenBags, family_place
from dpn.registry.archive.lines import ArchivedRecord
from dpn.registry.archive.merge_rules import Origin, different, merge
from dpn.registry.archive.reader import ArchiveReader
from dpn.registry.catalogue import BAGS, KINDS, Kind, find_many
from dpn.registry.catalogue.known import known_bags
from dpn.registry.catalogue.rows import save
from dpn.registry.records import BagRecord, Record
from dpn.registry.rules import Refused
from models.registry import MemberSource

BATCH_RECORDS = 1000
BATCH_BYTES = 8 * 1024 * 1024
"""Of lines: a batch of the longest records takes no more memory than one of usual ones."""


@dataclass(frozen=True)
class Problem:
    """A record that was left out, or left as it is here, and why."""

    line: int
    kind: str
    key: str
    reason: str
    values: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """The fields in which the two differ: our value and the archive's."""


@dataclass
class KindResult:
    """What became of the records of one kind."""

    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    """Ours says as much, or more."""

    problems: int = 0


@dataclass(frozen=True)
class Import:
    """Merges archives into the registry of the node `us`; a dry run decides all the same and writes nothing.

    Each problem is handed to `report` as it is found. What the archive lacks is never missed.
    """

    sessions: Sessions
    us: str
    report: Callable[[Problem], None]
    dry_run: bool = False

    def run(self, archive: ArchiveReader) -> dict[str, KindResult]:
        """The results by kind. Raises BrokenArchive where the file has a flaw: check it first."""
        results = {kind.name: KindResult() for kind in KINDS}
        origin = Origin(archive.header.registry, self.us)
        with closing(ForeseenBags()) as foreseen:
            for batch in _batches(archive.entries()):
                self._merge(batch, origin, foreseen, results[batch[0].kind.name])
        return results

    def _merge(
        self, batch: Sequence[ArchivedRecord], origin: Origin, foreseen: ForeseenBags, result: KindResult
    ) -> None:
        kind = batch[0].kind
        with self._transaction(kind.table) as session:
            decided = _Decided(session, kind, batch, foreseen)
            for entry in batch:
                decided.decide(entry, origin)
            if self.dry_run:
                foreseen.add(record for record in decided.changed.values() if isinstance(record, BagRecord))
            else:
                save(session, kind, list(decided.changed.values()))
                insert_missing(session, MemberSource, decided.sources)
        added = len(decided.changed.keys() - decided.present.keys())
        result.read += len(batch)
        result.added += added
        result.updated += len(decided.changed) - added
        result.unchanged += len(batch) - len(decided.changed) - len(decided.problems)
        result.problems += len(decided.problems)
        for problem in decided.problems:
            self.report(problem)

    @contextmanager
    def _transaction(self, table: Table) -> Iterator[Session]:
        """Nobody else writes these records meanwhile, so that none who adds one is overwritten."""
        if self.dry_run:
            with reading(self.sessions) as session:
                yield session
            return
        with self.sessions.begin() as session:
            if session.get_bind().dialect.name == "postgresql":
                # As the first lock of its transaction it can wait, but not be part of a deadlock.
                session.execute(text(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE"))
            yield session


class _Decided:
    """What is to become of one batch, with all that was looked up for it: three queries, however many records."""

    def __init__(
        self, session: Session, kind: Kind[Any], batch: Sequence[ArchivedRecord], foreseen: ForeseenBags
    ) -> None:
        records = [entry.record for entry in batch]
        self.present: dict[tuple[str, ...], Record] = find_many(session, kind, [record.key for record in records])
        self._bags = _known_bags(session, records, foreseen)
        self._holders = _holders(session, records, foreseen)
        self.changed: dict[tuple[str, ...], Record] = {}
        self.sources: list[dict[str, str]] = []
        self.problems: list[Problem] = []

    def decide(self, entry: ArchivedRecord, origin: Origin) -> None:
        theirs = entry.record
        ours = self.present.get(theirs.key)
        decision = merge(origin, ours, theirs)
        if isinstance(decision, Refused):
            self._problem(entry, " ".join(decision.messages), ours)
        elif decision.changed and (reason := self._obstacle(decision.record)):
            self._problem(entry, reason, ours)
        elif decision.changed:
            self._keep(entry, decision.record, origin, is_new=ours is None)

    def _keep(self, entry: ArchivedRecord, record: Record, origin: Origin, *, is_new: bool) -> None:
        self.changed[record.key] = record
        if isinstance(record, BagRecord):
            self._holders[family_place(record)] = record.uuid
        source = origin.source_of_member(entry.source)
        if entry.kind.name == "member" and is_new and source is not None:
            self.sources.append({"member_id": record.key[0], "peer": source})

    def _obstacle(self, record: Record) -> str | None:
        """Why the database could not hold this record beside the others."""
        if isinstance(record, BagRecord):
            holder = self._holders.get(family_place(record), record.uuid)
            place = f"version {record.version} of {record.first_version_uuid} by {record.admin_node}"
            return f"Bag {holder} is {place}; so is this one." if holder != record.uuid else None
        bag = getattr(record, "bag", None)
        if bag is None or bag in self._bags:
            return None
        return (
            f"Its bag {bag} is neither in the registry nor in the archive: sync with the bag's node, import again."
        )

    def _problem(self, entry: ArchivedRecord, reason: str, ours: Record | None) -> None:
        values = different(ours, entry.record) if ours is not None else {}
        key = "/".join(entry.record.key)
        self.problems.append(Problem(entry.line, entry.kind.name, key, reason, values))


def _batches(entries: Iterator[ArchivedRecord]) -> Iterator[list[ArchivedRecord]]:
    """The entries, those of one kind together, as many as fit a batch."""
    for _, of_one_kind in groupby(entries, lambda entry: entry.kind.name):
        batch: list[ArchivedRecord] = []
        size = 0
        for entry in of_one_kind:
            batch.append(entry)
            size += entry.size
            if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _known_bags(session: Session, records: Iterable[Record], foreseen: ForeseenBags) -> set[str]:
    wanted = {bag for record in records if isinstance(bag := getattr(record, "bag", None), str)}
    return known_bags(session, wanted) | foreseen.known(wanted)


def _holders(session: Session, records: Iterable[Record], foreseen: ForeseenBags) -> dict[FamilyPlace, str]:
    """Which bag has each place of the records' version families."""
    families = sorted({record.first_version_uuid for record in records if isinstance(record, BagRecord)})
    if not families:
        return {}
    bags = BAGS.table.c
    rows = session.execute(
        select(bags.first_version_uuid, bags.version, bags.admin_node, bags.uuid).where(
            bags.first_version_uuid.in_(families)
        )
    )
    taken = {(family, version, admin_node): uuid for family, version, admin_node, uuid in rows}
    return taken | foreseen.holders(families)
