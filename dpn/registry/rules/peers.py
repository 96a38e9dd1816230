"""What a peer may tell us: only of what is its own, and never so that what we know is taken back.

The status of a refusal says why: 403 it is not that peer's to say, 404 its bag is not known here (yet),
409 it contradicts what was said before, 400 it breaks a rule. Lists that cannot be asked for by their owner show
what the peer merely passes on: that is foreign, neither taken nor refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from dpn.registry.records import (
    Agreement,
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
from dpn.registry.rules import restores, transfers
from dpn.registry.rules.bags import BAG_IDENTITY, DIGEST_IDENTITY, misnamed_family
from dpn.registry.rules.decisions import (
    Accepted,
    Adoption,
    Decision,
    Foreign,
    Refused,
    forbidden,
    invalid,
    read_only_changes,
)
from dpn.registry.rules.flags import Course, T
from dpn.registry.rules.statements import impossible_times

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class KnownBag:
    """What we know of the bag that a record speaks of."""

    admin_node: str
    ingest_node: str
    replicating_nodes: Collection[str] = ()
    claimed: bool = False
    """The peer that speaks of it calls itself its admin node, which was not agreed to yet."""


def adopt_node(peer: str, current: NodeRecord | None, theirs: NodeRecord) -> Decision[NodeRecord]:
    """A node as it shows itself. Its address and our agreements with it are ours to say, in our settings."""
    if theirs.namespace != peer:
        return forbidden(f"{peer} may speak of itself only, not of {theirs.namespace}")
    if current is None:
        return Refused(HTTPStatus.NOT_FOUND, (f"no such node: {peer}",))
    ours = {field: getattr(current, field) for field in ("api_root", *Agreement, "created_at")}
    merged = theirs.model_copy(update=ours)
    return Accepted(merged, changed=merged != current)


def adopt_member(
    peer: str, current: MemberRecord | None, theirs: MemberRecord, *, source: str | None
) -> Adoption[MemberRecord]:
    """A member as the first who told us of it shows it; `source` is that peer, none for a member of ours.

    Others pass on what they have read, sooner or later. Two that were made apart, or say different things of one
    moment, are two members of one id.
    """
    if current is None:
        return Accepted(theirs)
    if current == theirs:
        return Accepted(current, changed=False)
    if source == peer:
        return Accepted(theirs)
    if theirs.created_at != current.created_at or theirs.updated_at == current.updated_at:
        whose = f"{source}'s" if source else "ours"
        decide = f": if it never was, `dpn registry disown {source} member {theirs.member_id}`" if source else ""
        return _contradiction(f"another member of this id is {whose} here{decide}")
    return Foreign()


def adopt_bag(
    peer: str,
    current: BagRecord | None,
    theirs: BagRecord,
    *,
    agreed: bool = False,
    family_of: str | None = None,
) -> Adoption[BagRecord]:
    """A bag as its admin node shows it. What was read last counts: the peer's own clock may have stepped back.

    A bag passes to another admin node when both nodes say so; `agreed` tells that the other one does. Neither
    alone can put a bag into the other's name, nor take one away. A new one joins no family of which
    another node, `family_of`, administers the first version (None if that is not known).
    """
    now, then = theirs.admin_node, theirs.admin_node if current is None else current.admin_node
    if peer not in (now, then):
        passed_on = current is not None and now == then
        return Foreign() if passed_on else forbidden(f"bag {theirs.uuid} is administered by {then}, not by {peer}")
    if current is not None and (changes := read_only_changes(current, theirs, BAG_IDENTITY)):
        return _contradiction(*changes)
    if now != then and not agreed:
        return forbidden(f"bag {theirs.uuid} passes from {then} to {now} when both say so")
    if current is None and family_of not in (None, peer):
        return forbidden(f"the family {theirs.first_version_uuid} is {family_of}'s: {peer} adds no version to it")
    if problems := misnamed_family(theirs):
        return invalid(*problems)
    return Accepted(theirs, changed=theirs != current)


def adopt_digest(
    peer: str, current: DigestRecord | None, theirs: DigestRecord, *, bag: KnownBag | None
) -> Adoption[DigestRecord]:
    """A digest as its bag's admin node shows it, or the bag's ingest node that computed it.

    What the admin node computed itself comes before what the ingest node says, whichever we hear first.
    """
    if bag is None:
        return _unknown_bag(theirs.bag)
    computed_it = peer == theirs.node == bag.ingest_node
    if peer != bag.admin_node and not computed_it:
        if theirs.node != peer:
            return Foreign()
        return forbidden(f"bag {theirs.bag} is administered by {bag.admin_node}, not by {peer}")
    if current is not None and current.node != theirs.node and bag.admin_node in (current.node, theirs.node):
        return Accepted(theirs) if theirs.node == peer == bag.admin_node else Foreign()
    return _said_once(current, theirs, DIGEST_IDENTITY)


def adopt_ingest(
    peer: str, current: IngestRecord | None, theirs: IngestRecord, *, bag: KnownBag | None
) -> Adoption[IngestRecord]:
    """An Ingest record as its bag's admin node shows it."""
    if bag is None:
        return _unknown_bag(theirs.bag)
    if bag.claimed:
        return forbidden(f"bag {theirs.bag} is administered by {bag.admin_node}, not yet by {peer}")
    if bag.admin_node != peer:
        return Foreign()
    return _said_once(current, theirs, ("ingest_id", "bag", "ingested", "replicating_nodes", "created_at"))


def adopt_fixity_check(
    peer: str, current: FixityCheckRecord | None, theirs: FixityCheckRecord, *, bag_known: bool
) -> Decision[FixityCheckRecord]:
    """A fixity check as the node shows it that made it."""
    if theirs.node != peer:
        return forbidden(f"fixity check {theirs.fixity_check_id} is {theirs.node}'s, not {peer}'s")
    if not bag_known:
        return _unknown_bag(theirs.bag)
    if problems := impossible_times(theirs):
        return invalid(*problems)
    identity = ("fixity_check_id", "bag", "node", "success", "fixity_at", "created_at")
    return _said_once(current, theirs, identity)


def adopt_transfer(
    peer: str, current: ReplicationRecord | None, theirs: ReplicationRecord, *, bag: KnownBag | None
) -> Decision[ReplicationRecord]:
    """A replication transfer as its owner shows it, of a bag that it administers or holds a copy of.

    What it has told once it may go on telling: bags change hands, and their nodes, while transfers are under way.
    """
    if theirs.from_node != peer:
        return forbidden(f"transfer {theirs.replication_id} is {theirs.from_node}'s, not {peer}'s")
    if bag is None:
        return _unknown_bag(theirs.bag)
    if current is None and peer not in (bag.admin_node, bag.ingest_node, *bag.replicating_nodes):
        return forbidden(f"{peer} neither administers bag {theirs.bag} nor holds a copy that we know of")
    return _follow(transfers.COURSE, current, theirs, "a node does not replicate to itself")


def adopt_restore(
    peer: str, current: RestoreRecord | None, theirs: RestoreRecord, *, bag_known: bool
) -> Decision[RestoreRecord]:
    """A restore transfer as the node shows it that asks for the bag."""
    if theirs.to_node != peer:
        return forbidden(f"restore transfer {theirs.restore_id} is {theirs.to_node}'s, not {peer}'s")
    if not bag_known:
        return _unknown_bag(theirs.bag)
    return _follow(restores.COURSE, current, theirs, "a node does not restore from itself")


def _follow(course: Course[T], current: T | None, theirs: T, to_itself: str) -> Decision[T]:
    if theirs.from_node == theirs.to_node:
        return invalid(f"to_node: {to_itself}")
    if current is None:
        return Accepted(theirs)
    decision = course.merge(current, theirs)
    return _contradiction(*decision.messages) if isinstance(decision, Refused) else decision


def _said_once(current: R | None, theirs: R, identity: Collection[str]) -> Decision[R]:
    if current is None:
        return Accepted(theirs)
    if changes := read_only_changes(current, theirs, identity):
        return _contradiction(*changes)
    return Accepted(current, changed=False)


def _unknown_bag(uuid: str) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, (f"bag {uuid} is not known here",))


def _contradiction(*messages: str) -> Refused:
    return Refused(HTTPStatus.CONFLICT, messages)
