"""Writes all records of our registry into an archive, as they were at one moment, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

from pydantic_core import PydanticSerializationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.database import Sessions
from dpn.errors import PermanentError
from dpn.registry.archive.lines import ArchiveHeader
from dpn.registry.archive.writer import ArchiveWriter
from dpn.registry.catalogue import KINDS, MEMBERS, NODES, Kind, batches
from dpn.registry.catalogue.members import sources_of
from dpn.registry.records import MemberRecord, Record

BATCH_RECORDS = 1000


class DamagedRegistry(PermanentError):
    """A row of the registry cannot be written as a record."""


def export(sessions: Sessions, file: BinaryIO, *, node: str, now: datetime) -> dict[str, int]:
    """Writes the registry of the node; returns the lines of each kind. Raises DamagedRegistry, OSError.

    Whoever writes to the registry meanwhile is not held up and does not show.
    """
    with _snapshot(sessions) as session:
        writer = ArchiveWriter(file, ArchiveHeader(node, node, now))
        for kind in KINDS:
            try:
                for batch in _in_order(session, kind):
                    _write(session, writer, kind, batch)
            except (ValueError, PydanticSerializationError) as error:
                problem = f"a {kind.name} record cannot be written: {error}"
                raise DamagedRegistry(f"{problem} (after {writer.counts[kind.name]} that can)") from error
        writer.end()
    return writer.counts


@contextmanager
def _snapshot(sessions: Sessions) -> Iterator[Session]:
    """A session that sees the registry as it is now, whatever is committed later, and only reads."""
    with sessions() as session:
        if session.get_bind().dialect.name == "postgresql":
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        else:
            options = {"read_only": True}
        session.connection(execution_options=options)
        session.execute(select(NODES.table.c.namespace).limit(1))  # the first read is the moment
        yield session


def _in_order(session: Session, kind: Kind[Any]) -> Iterator[list[Any]]:
    if kind is NODES:
        # Few, and with names that databases sort by their own rules.
        nodes = [node for batch in batches(session, NODES) for node in batch]
        yield sorted(nodes, key=lambda node: node.key)
        return
    yield from batches(session, kind, size=BATCH_RECORDS)


def _write(session: Session, writer: ArchiveWriter, kind: Kind[Any], batch: Iterable[Record]) -> None:
    sources = sources_of(session, [member.key[0] for member in batch]) if kind is MEMBERS else {}
    for record in batch:
        writer.add(kind.name, record)
        if isinstance(record, MemberRecord) and record.member_id in sources:
            writer.add_source(record, sources[record.member_id])
