"""Takes over what a peer shows of its own records: in batches, as often as one likes, none spoiling another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dpn.registry.catalogue.applied import Applied, RefusedRecord
from dpn.registry.catalogue.aside import admins_told
from dpn.registry.catalogue.disowned import disowned
from dpn.registry.catalogue.kinds import (
    BAGS,
    DIGESTS,
    FIXITY_CHECKS,
    INGESTS,
    KINDS,
    MEMBERS,
    NODES,
    REPLICAS,
    RESTORES,
    TRANSFERS,
    Kind,
)
from dpn.registry.catalogue.known import known_bags
from dpn.registry.catalogue.members import NOBODY, remember_source, sources_of
from dpn.registry.catalogue.query import find_many
from dpn.registry.catalogue.rows import save, save_new
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
from dpn.registry.rules.peers import KnownBag

R = TypeVar("R", bound=Record)

Decide: TypeAlias = Callable[[R | None, R], Adoption[R]]
AboutABag: TypeAlias = DigestRecord | IngestRecord | ReplicationRecord


class _Overtaken(Exception):
    """Somebody else added one of the records between our look and our insert: what was decided is void."""


def apply_from_peer(session: Session, peer: str, records: Sequence[Record]) -> Applied:
    """Adopts what of `records`, of any kinds and in any order, is `peer`'s to say.

    Idempotent. A record that cannot be adopted is in `refused` and changes nothing.
    """
    applied = Applied()
    for kind in KINDS:
        if batch := [record for record in records if isinstance(record, kind.record)]:
            applied += _adopt(session, peer, kind, batch)
    return applied


def _adopt(session: Session, peer: str, kind: Kind[R], batch: Sequence[R]) -> Applied:
    """Reads what there is, decides, writes. If the database refuses the batch, halves of it are tried, so that a
    record that takes another's place (two bags claim one version of a family) is found and set aside."""
    try:
        with session.begin_nested():
            return _decide_and_save(session, peer, kind, batch)
    except _Overtaken:
        return _adopt(session, peer, kind, batch)
    except IntegrityError as error:
        if len(batch) == 1:
            reason = (f"the database refuses it: {error.orig}",)
            return Applied(refused=(_refused(kind, batch[0], HTTPStatus.CONFLICT, reason),))
        middle = len(batch) // 2
        first = _adopt(session, peer, kind, batch[:middle])
        return first + _adopt(session, peer, kind, batch[middle:])


def _decide_and_save(session: Session, peer: str, kind: Kind[R], batch: Sequence[R]) -> Applied:
    present = find_many(session, kind, [record.key for record in batch], lock=True)
    decide = RULES[kind.name](session, peer, batch)
    current: dict[tuple[str, ...], R] = dict(present)
    changed: dict[tuple[str, ...], R] = {}
    refused = []
    unchanged = foreign = 0
    not_its = disowned(session, peer, kind, [record.key for record in batch])
    for theirs in batch:
        if (why := not_its.get("/".join(theirs.key))) is not None:
            said = (f"not {peer}'s, as was decided here: {why}",)
            refused.append(_refused(kind, theirs, HTTPStatus.FORBIDDEN, said))
            continue
        match decide(current.get(theirs.key), theirs):
            case Refused(status, messages):
                rival = _rival(kind, peer, current.get(theirs.key), theirs)
                refused.append(_refused(kind, theirs, status, messages, rival))
            case Foreign():
                foreign += 1
            case Accepted(record, True):
                current[theirs.key] = changed[theirs.key] = record
            case _:
                unchanged += 1
    # In the order of keys: of two that add the same records, neither waits for the other in turn.
    new = [changed[key] for key in sorted(changed.keys() - present.keys())]
    if len(save_new(session, kind, new)) < len(new):
        raise _Overtaken
    if kind.table is MEMBERS.table:
        remember_source(session, peer, [key[0] for key in sorted(changed)])
    save(session, kind, [changed[key] for key in sorted(changed.keys() & present.keys())])
    return Applied(len(new), len(changed) - len(new), unchanged, tuple(refused), foreign)


def _refused(
    kind: Kind[R], record: R, status: HTTPStatus, messages: tuple[str, ...], rival: str | None = None
) -> RefusedRecord:
    if rival is not None:
        key = "/".join(record.key)
        decide = f"it is {rival}'s here: if it never was, `dpn registry disown {rival} {kind.name} {key}`"
        messages = (*messages, decide)
    return RefusedRecord(kind.name, record.key, status, messages, record, rival)


def _rival(kind: Kind[R], peer: str, current: R | None, theirs: R) -> str | None:
    """Whose the record is here, where the peer claims it as its own."""
    owner = None if current is None or kind.owner_of(theirs) != peer else kind.owner_of(current)
    return None if owner == peer else owner


def _node_rules(_session: Session, peer: str, _batch: Sequence[NodeRecord]) -> Decide[NodeRecord]:
    return partial(peers.adopt_node, peer)


def _member_rules(session: Session, peer: str, batch: Sequence[MemberRecord]) -> Decide[MemberRecord]:
    sources = sources_of(session, [member.member_id for member in batch])

    def decide(current: MemberRecord | None, theirs: MemberRecord) -> Adoption[MemberRecord]:
        if current is None or sources.get(theirs.member_id) == NOBODY:
            sources[theirs.member_id] = peer  # what else the batch says of it is its source's, too
            return Accepted(theirs)
        return peers.adopt_member(peer, current, theirs, source=sources.get(theirs.member_id))

    return decide


def _bag_rules(session: Session, peer: str, batch: Sequence[BagRecord]) -> Decide[BagRecord]:
    """A bag passes from one admin node to the next once both have said so: the word of the first of them to be
    heard is set aside until then."""
    told = admins_told(session, [bag.uuid for bag in batch])
    admins = _admins_of(session, {bag.first_version_uuid for bag in batch})

    def decide(current: BagRecord | None, theirs: BagRecord) -> Adoption[BagRecord]:
        agreed = current is not None and all(
            node == peer or told.get((node, theirs.uuid)) == theirs.admin_node
            for node in (current.admin_node, theirs.admin_node)
        )
        return peers.adopt_bag(
            peer,
            current,
            theirs,
            agreed=agreed,
            family_of=None if theirs.version == 1 else admins.get(theirs.first_version_uuid),
        )

    return decide


def _admins_of(session: Session, bags: Iterable[str]) -> dict[str, str]:
    table = BAGS.table.c
    rows = session.execute(select(table.uuid, table.admin_node).where(table.uuid.in_(bags)))
    return {row.uuid: row.admin_node for row in rows}


def _digest_rules(session: Session, peer: str, batch: Sequence[DigestRecord]) -> Decide[DigestRecord]:
    facts = _bag_facts(session, peer, batch)
    return lambda current, theirs: peers.adopt_digest(peer, current, theirs, bag=facts.get(theirs.bag))


def _ingest_rules(session: Session, peer: str, batch: Sequence[IngestRecord]) -> Decide[IngestRecord]:
    facts = _bag_facts(session, peer, batch)
    return lambda current, theirs: peers.adopt_ingest(peer, current, theirs, bag=facts.get(theirs.bag))


def _check_rules(session: Session, peer: str, batch: Sequence[FixityCheckRecord]) -> Decide[FixityCheckRecord]:
    known = known_bags(session, [check.bag for check in batch])
    return lambda current, theirs: peers.adopt_fixity_check(peer, current, theirs, bag_known=theirs.bag in known)


def _transfer_rules(session: Session, peer: str, batch: Sequence[ReplicationRecord]) -> Decide[ReplicationRecord]:
    facts = _bag_facts(session, peer, batch)
    return lambda current, theirs: peers.adopt_transfer(peer, current, theirs, bag=facts.get(theirs.bag))


def _restore_rules(session: Session, peer: str, batch: Sequence[RestoreRecord]) -> Decide[RestoreRecord]:
    known = known_bags(session, [transfer.bag for transfer in batch])
    return lambda current, theirs: peers.adopt_restore(peer, current, theirs, bag_known=theirs.bag in known)


RULES: dict[str, Callable[[Session, str, Sequence[Any]], Decide[Any]]] = {
    NODES.name: _node_rules,
    MEMBERS.name: _member_rules,
    BAGS.name: _bag_rules,
    DIGESTS.name: _digest_rules,
    INGESTS.name: _ingest_rules,
    FIXITY_CHECKS.name: _check_rules,
    TRANSFERS.name: _transfer_rules,
    RESTORES.name: _restore_rules,
}
"""What decides on a batch of a kind, by what is known when it is asked for."""


def _bag_facts(session: Session, peer: str, batch: Iterable[AboutABag]) -> dict[str, KnownBag]:
    """What is known of the bags that these records are about; of the nodes that hold them, only `peer`."""
    bags = {record.bag for record in batch}
    held = select(REPLICAS.c.bag).where(REPLICAS.c.bag.in_(bags), REPLICAS.c.node == peer)
    holds = set(session.scalars(held))
    told = admins_told(session, bags, peer)
    table = BAGS.table.c
    statement = select(table.uuid, table.admin_node, table.ingest_node).where(table.uuid.in_(bags))
    return {
        row.uuid: KnownBag(
            row.admin_node,
            row.ingest_node,
            (peer,) if row.uuid in holds else (),
            claimed=told.get((peer, row.uuid)) == peer,
        )
        for row in session.execute(statement)
    }
