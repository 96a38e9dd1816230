"""Takes over what a peer shows of its own records: in batches, as often as one likes, none spoiling another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dpn.registry.catalogue.kinds import BAGS, DIGESTS, NODES, TRANSFERS, Kind
from dpn.registry.catalogue.reading import find_many
from dpn.registry.catalogue.saving import save
from dpn.registry.records import BagRecord, DigestRecord, NodeRecord, Record, ReplicationRecord
from dpn.registry.rules import Accepted, Decision, Refused, peers

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class RefusedRecord:
    """A record that was set aside. `status` says why: 403 not that peer's, 404 its bag is unknown (yet), 409 it
    contradicts what we have."""

    kind: str
    key: tuple[str, ...]
    status: HTTPStatus
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Applied:
    """What became of a batch."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: tuple[RefusedRecord, ...] = ()

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.refused + other.refused,
        )


def apply_from_peer(session: Session, peer: str, records: Sequence[Record]) -> Applied:
    """Adopts what of `records` (of any kinds, bags before what refers to them) is `peer`'s to say.

    Idempotent. A record that cannot be adopted is in `refused` and changes nothing.
    """
    applied = Applied()
    for record_type, adopt in ADOPTERS.items():
        if batch := [record for record in records if isinstance(record, record_type)]:
            applied += adopt(session, peer, batch)
    return applied


def _adopt_nodes(session: Session, peer: str, batch: Sequence[Record]) -> Applied:
    nodes = [record for record in batch if isinstance(record, NodeRecord)]
    return _adopt(session, NODES, nodes, lambda current, theirs: peers.adopt_node(peer, current, theirs))


def _adopt_bags(session: Session, peer: str, batch: Sequence[Record]) -> Applied:
    bags = [record for record in batch if isinstance(record, BagRecord)]
    return _adopt(session, BAGS, bags, lambda current, theirs: peers.adopt_bag(peer, current, theirs))


def _adopt_digests(session: Session, peer: str, batch: Sequence[Record]) -> Applied:
    digests = [record for record in batch if isinstance(record, DigestRecord)]
    admins = _admin_nodes(session, {digest.bag for digest in digests})
    return _adopt(
        session,
        DIGESTS,
        digests,
        lambda current, theirs: peers.adopt_digest(peer, current, theirs, admin_node=admins.get(theirs.bag)),
    )


def _adopt_transfers(session: Session, peer: str, batch: Sequence[Record]) -> Applied:
    transfers = [record for record in batch if isinstance(record, ReplicationRecord)]
    known = _admin_nodes(session, {transfer.bag for transfer in transfers})
    return _adopt(
        session,
        TRANSFERS,
        transfers,
        lambda current, theirs: peers.adopt_transfer(peer, current, theirs, bag_known=theirs.bag in known),
    )


ADOPTERS: dict[type[Record], Callable[[Session, str, Sequence[Record]], Applied]] = {
    NodeRecord: _adopt_nodes,
    BagRecord: _adopt_bags,
    DigestRecord: _adopt_digests,
    ReplicationRecord: _adopt_transfers,
}


def _adopt(
    session: Session, kind: Kind[R], batch: Sequence[R], decide: Callable[[R | None, R], Decision[R]]
) -> Applied:
    """Reads what there is, decides, writes. If the database refuses the batch, halves of it are tried, so that a
    record that takes another's place (two bags claim one version of a family) is found and set aside."""
    try:
        with session.begin_nested():
            return _decide_and_save(session, kind, batch, decide)
    except IntegrityError as error:
        if len(batch) == 1:
            reason = (f"the database refuses it: {error.orig}",)
            return Applied(refused=(RefusedRecord(kind.name, batch[0].key, HTTPStatus.CONFLICT, reason),))
        middle = len(batch) // 2
        first = _adopt(session, kind, batch[:middle], decide)
        return first + _adopt(session, kind, batch[middle:], decide)


def _decide_and_save(
    session: Session, kind: Kind[R], batch: Sequence[R], decide: Callable[[R | None, R], Decision[R]]
) -> Applied:
    present = find_many(session, kind, [record.key for record in batch], lock=True)
    current: dict[tuple[str, ...], R] = dict(present)
    changed: dict[tuple[str, ...], R] = {}
    unchanged = 0
    refused = []
    for theirs in batch:
        match decide(current.get(theirs.key), theirs):
            case Refused(status, messages):
                refused.append(RefusedRecord(kind.name, theirs.key, status, messages))
            case Accepted(record, True):
                current[theirs.key] = changed[theirs.key] = record
            case _:
                unchanged += 1
    save(session, kind, list(changed.values()))
    added = len(changed.keys() - present.keys())
    return Applied(added, len(changed) - added, unchanged, tuple(refused))


def _admin_nodes(session: Session, bags: set[str]) -> dict[str, str]:
    """The admin node of each of these bags that is known."""
    table = BAGS.table
    statement = select(table.c.uuid, table.c.admin_node).where(table.c.uuid.in_(bags))
    return {row.uuid: row.admin_node for row in session.execute(statement)}
