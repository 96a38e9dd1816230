"""Takes over what a peer shows of its own records: in batches, as often as one likes, none spoiling another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import (
    BAGS,
    DIGESTS,
    FIXITY_CHECKS,
    INGESTS,
    MEMBERS,
    NODES,
    REPLICAS,
    RESTORES,
    TRANSFERS,
    Kind,
)
from dpn.registry.catalogue.known import known_bags
from dpn.registry.catalogue.members import remember_source, sources_of
from dpn.registry.catalogue.reading import find_many
from dpn.registry.catalogue.saving import save
from dpn.registry.records import (
    BagRecord,
    DigestRecord,
    FixityCheckRecord,
    IngestRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    RestoreRecord,
)
from dpn.registry.rules import Accepted, Adoption, Foreign, Refused, peers
from dpn.registry.rules.peers import BagFacts

R = TypeVar("R", bound=Record)

Decide: TypeAlias = Callable[[R | None, R], Adoption[R]]


@dataclass(frozen=True)
class RefusedRecord:
    """A record that was set aside. `status` says why: 403 not that peer's, 404 its bag is unknown (yet), 409 it
    contradicts what we have, 400 it breaks a rule."""

    kind: str
    key: tuple[str, ...]
    status: HTTPStatus
    messages: tuple[str, ...]
    record: Record


@dataclass(frozen=True)
class Applied:
    """What became of a batch. `foreign` are records that the peer merely passes on: left alone, and no fault."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: tuple[RefusedRecord, ...] = ()
    foreign: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.refused + other.refused,
            self.foreign + other.foreign,
        )


def apply_from_peer(session: Session, peer: str, records: Sequence[Record]) -> Applied:
    """Adopts what of `records`, of any kinds and in any order, is `peer`'s to say.

    Idempotent. A record that cannot be adopted is in `refused` and changes nothing.
    """
    applied = Applied()
    for record_type, adopt in ADOPTERS.items():
        if batch := [record for record in records if isinstance(record, record_type)]:
            applied += adopt(session, peer, batch)
    return applied


def _adopt_nodes(session: Session, peer: str, batch: Sequence[NodeRecord]) -> Applied:
    return _adopt(session, NODES, batch, lambda current, theirs: peers.adopt_node(peer, current, theirs))


def _adopt_members(session: Session, peer: str, batch: Sequence[MemberRecord]) -> Applied:
    sources = sources_of(session, [member.member_id for member in batch])

    def decide(current: MemberRecord | None, theirs: MemberRecord) -> Adoption[MemberRecord]:
        if current is None:
            sources[theirs.member_id] = peer  # of two in one batch, the second is its own too
        return peers.adopt_member(peer, current, theirs, source=sources.get(theirs.member_id))

    known = find_many(session, MEMBERS, [member.key for member in batch])
    applied = _adopt(session, MEMBERS, batch, decide)
    remember_source(session, peer, {member.member_id for member in batch if member.key not in known})
    return applied


def _adopt_bags(session: Session, peer: str, batch: Sequence[BagRecord]) -> Applied:
    return _adopt(session, BAGS, batch, lambda current, theirs: peers.adopt_bag(peer, current, theirs))


def _adopt_digests(session: Session, peer: str, batch: Sequence[DigestRecord]) -> Applied:
    facts = _facts(session, {digest.bag for digest in batch})
    return _adopt(
        session,
        DIGESTS,
        batch,
        lambda current, theirs: peers.adopt_digest(peer, current, theirs, bag=facts.get(theirs.bag)),
    )


def _adopt_ingests(session: Session, peer: str, batch: Sequence[IngestRecord]) -> Applied:
    facts = _facts(session, {ingest.bag for ingest in batch})
    return _adopt(
        session,
        INGESTS,
        batch,
        lambda current, theirs: peers.adopt_ingest(peer, current, theirs, bag=facts.get(theirs.bag)),
    )


def _adopt_fixity_checks(session: Session, peer: str, batch: Sequence[FixityCheckRecord]) -> Applied:
    known = known_bags(session, {check.bag for check in batch})
    return _adopt(
        session,
        FIXITY_CHECKS,
        batch,
        lambda current, theirs: peers.adopt_fixity_check(peer, current, theirs, bag_known=theirs.bag in known),
    )


def _adopt_transfers(session: Session, peer: str, batch: Sequence[ReplicationRecord]) -> Applied:
    facts = _facts(session, {transfer.bag for transfer in batch}, holder=peer)
    return _adopt(
        session,
        TRANSFERS,
        batch,
        lambda current, theirs: peers.adopt_transfer(peer, current, theirs, bag=facts.get(theirs.bag)),
    )


def _adopt_restores(session: Session, peer: str, batch: Sequence[RestoreRecord]) -> Applied:
    known = known_bags(session, {transfer.bag for transfer in batch})
    return _adopt(
        session,
        RESTORES,
        batch,
        lambda current, theirs: peers.adopt_restore(peer, current, theirs, bag_known=theirs.bag in known),
    )


ADOPTERS: dict[type[Record], Callable[[Session, str, Sequence[Any]], Applied]] = {
    NodeRecord: _adopt_nodes,
    MemberRecord: _adopt_members,
    BagRecord: _adopt_bags,
    DigestRecord: _adopt_digests,
    IngestRecord: _adopt_ingests,
    FixityCheckRecord: _adopt_fixity_checks,
    ReplicationRecord: _adopt_transfers,
    RestoreRecord: _adopt_restores,
}
"""Each after those that it refers to."""


def _adopt(session: Session, kind: Kind[R], batch: Sequence[R], decide: Decide[R]) -> Applied:
    """Reads what there is, decides, writes. If the database refuses the batch, halves of it are tried, so that a
    record that takes another's place (two bags claim one version of a family) is found and set aside."""
    try:
        with session.begin_nested():
            return _decide_and_save(session, kind, batch, decide)
    except IntegrityError as error:
        if len(batch) == 1:
            reason = (f"the database refuses it: {error.orig}",)
            return Applied(refused=(_refused(kind, batch[0], HTTPStatus.CONFLICT, reason),))
        middle = len(batch) // 2
        first = _adopt(session, kind, batch[:middle], decide)
        return first + _adopt(session, kind, batch[middle:], decide)


def _decide_and_save(session: Session, kind: Kind[R], batch: Sequence[R], decide: Decide[R]) -> Applied:
    present = find_many(session, kind, [record.key for record in batch], lock=True)
    current: dict[tuple[str, ...], R] = dict(present)
    changed: dict[tuple[str, ...], R] = {}
    unchanged = foreign = 0
    refused = []
    for theirs in batch:
        match decide(current.get(theirs.key), theirs):
            case Refused(status, messages):
                refused.append(_refused(kind, theirs, status, messages))
            case Foreign():
                foreign += 1
            case Accepted(record, True):
                current[theirs.key] = changed[theirs.key] = record
            case _:
                unchanged += 1
    save(session, kind, list(changed.values()))
    added = len(changed.keys() - present.keys())
    return Applied(added, len(changed) - added, unchanged, tuple(refused), foreign)


def _refused(kind: Kind[R], record: R, status: HTTPStatus, messages: tuple[str, ...]) -> RefusedRecord:
    return RefusedRecord(kind.name, record.key, status, messages, record)


def _facts(session: Session, bags: set[str], *, holder: str | None = None) -> dict[str, BagFacts]:
    """Who administers each of these bags that is known; with `holder`, whether it holds a copy."""
    table = BAGS.table
    statement = select(table.c.uuid, table.c.admin_node, table.c.ingest_node).where(table.c.uuid.in_(bags))
    held: set[str] = set()
    if holder is not None:
        replica = REPLICAS.c
        held = set(session.scalars(select(replica.bag).where(replica.bag.in_(bags), replica.node == holder)))
    return {
        row.uuid: BagFacts(row.admin_node, row.ingest_node, (holder,) if holder and row.uuid in held else ())
        for row in session.execute(statement)
    }
