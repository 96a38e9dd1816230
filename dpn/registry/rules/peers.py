"""What a peer may tell us: only of what is its own, and never so that what we know is taken back.

The status of a refusal says why: 403 it is not that peer's to say, 404 its bag is not known here (yet),
409 it contradicts what the peer said before, 400 it breaks a rule.
"""

from __future__ import annotations

from http import HTTPStatus

from dpn.registry.records import BagRecord, DigestRecord, NodeRecord, ReplicationRecord
from dpn.registry.rules import transfers
from dpn.registry.rules.bags import BAG_IDENTITY, DIGEST_IDENTITY
from dpn.registry.rules.decisions import Accepted, Decision, Refused, forbidden, read_only_changes


def adopt_bag(peer: str, current: BagRecord | None, theirs: BagRecord) -> Decision[BagRecord]:
    """A bag as its admin node shows it. What was read last counts: the peer's own clock may have stepped back."""
    admin_node = theirs.admin_node if current is None else current.admin_node
    if admin_node != peer:
        return forbidden(f"bag {theirs.uuid} is administered by {admin_node}, not by {peer}")
    if current is None:
        return Accepted(theirs)
    if changes := read_only_changes(current, theirs, BAG_IDENTITY):
        return _contradiction(*changes)
    return Accepted(theirs, changed=theirs != current)


def adopt_digest(
    peer: str, current: DigestRecord | None, theirs: DigestRecord, *, admin_node: str | None
) -> Decision[DigestRecord]:
    """A digest as the admin node of its bag shows it; `admin_node` is none if the bag is not known."""
    if admin_node is None:
        return _unknown_bag(theirs.bag)
    if admin_node != peer:
        return forbidden(f"bag {theirs.bag} is administered by {admin_node}, not by {peer}")
    if current is None:
        return Accepted(theirs)
    if changes := read_only_changes(current, theirs, DIGEST_IDENTITY):
        return _contradiction(*changes)
    return Accepted(current, changed=False)


def adopt_transfer(
    peer: str, current: ReplicationRecord | None, theirs: ReplicationRecord, *, bag_known: bool
) -> Decision[ReplicationRecord]:
    """A transfer as its owner shows it."""
    if theirs.from_node != peer:
        return forbidden(f"transfer {theirs.replication_id} is {theirs.from_node}'s, not {peer}'s")
    if not bag_known:
        return _unknown_bag(theirs.bag)
    if current is None:
        return Accepted(theirs)
    decision = transfers.merge(current, theirs)
    return _contradiction(*decision.messages) if isinstance(decision, Refused) else decision


def adopt_node(peer: str, current: NodeRecord | None, theirs: NodeRecord) -> Decision[NodeRecord]:
    """A node as it shows itself. Its address and our agreements with it are ours to say, in our settings."""
    if theirs.namespace != peer:
        return forbidden(f"{peer} may speak of itself only, not of {theirs.namespace}")
    if current is None:
        return Refused(HTTPStatus.NOT_FOUND, (f"no such node: {peer}",))
    ours = {
        field: getattr(current, field)
        for field in ("api_root", "replicate_from", "replicate_to", "restore_from", "restore_to", "created_at")
    }
    merged = theirs.model_copy(update=ours)
    return Accepted(merged, changed=merged != current)


def _unknown_bag(uuid: str) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, (f"bag {uuid} is not known here",))


def _contradiction(*messages: str) -> Refused:
    return Refused(HTTPStatus.CONFLICT, messages)
