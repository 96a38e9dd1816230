"""The rules of bags, their digests and nodes: the entries that only their own node writes.

A registry entry does not change in what it describes: new content is a new bag and a new entry in its family.
Source: DPN REST API v2, bags, message digests and nodes.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from dpn.identifiers import UUID_VERSION_4
from dpn.registry.records import BagRecord, DigestRecord, NodeRecord
from dpn.registry.rules.decisions import (
    LOCAL_ONLY,
    Accepted,
    Caller,
    Decision,
    invalid,
    read_only_changes,
    stamped,
    unknown_nodes,
)

BAG_IDENTITY = ("uuid", "size", "first_version_uuid", "version", "bag_type", "ingest_node")
DIGEST_IDENTITY = ("bag", "algorithm", "node", "value")
NODE_IDENTITY = ("namespace", "api_root")
"""Where a node is reached is agreed out of band: a call over the network must not move it."""


def create_bag(
    proposed: BagRecord,
    *,
    caller: Caller,
    known_nodes: Collection[str],
    known_bags: Collection[str],
    same_version: str | None,
) -> Decision[BagRecord]:
    """May this bag be recorded? `same_version` is a bag of its admin node in its place, if any."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = [
        f"{field}: not a version 4 UUID"
        for field in ("uuid", "first_version_uuid")
        if not UUID_VERSION_4.match(getattr(proposed, field))
    ]
    problems += misnamed_family(proposed)
    problems += _place_taken(proposed, same_version)
    problems += _dangling(proposed, known_nodes, known_bags)
    return invalid(*problems) if problems else Accepted(proposed)


def update_bag(
    current: BagRecord,
    proposed: BagRecord,
    *,
    caller: Caller,
    known_nodes: Collection[str],
    known_bags: Collection[str],
    same_version: str | None,
    now: datetime,
) -> Decision[BagRecord]:
    """What becomes of `current` when the node itself sends `proposed` in its place."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = [*read_only_changes(current, proposed, BAG_IDENTITY), *_place_taken(proposed, same_version)]
    problems += _dangling(proposed, known_nodes, known_bags)
    return invalid(*problems) if problems else stamped(current, proposed, now)


def with_replica(bag: BagRecord, node: str, now: datetime) -> Accepted[BagRecord]:
    """The bag after `node` has stored a copy."""
    return stamped(bag, bag.change(replicating_nodes=(*bag.replicating_nodes, node)), now)


def create_digest(
    proposed: DigestRecord, *, caller: Caller, bag: str, known_nodes: Collection[str]
) -> Decision[DigestRecord]:
    """May this digest be recorded for the bag that the caller named?"""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = unknown_nodes([proposed.node], known_nodes, "node")
    if proposed.bag != bag:
        problems.append(f"bag: the digest is of {proposed.bag}, not of {bag}")
    return invalid(*problems) if problems else Accepted(proposed)


def create_node(proposed: NodeRecord, *, caller: Caller) -> Decision[NodeRecord]:
    """May this node be recorded?"""
    return Accepted(proposed) if caller.is_local else LOCAL_ONLY


def update_node(
    current: NodeRecord, proposed: NodeRecord, *, caller: Caller, now: datetime
) -> Decision[NodeRecord]:
    """What becomes of `current` when the node itself sends `proposed` in its place."""
    if not caller.is_local:
        return LOCAL_ONLY
    changes = read_only_changes(current, proposed, NODE_IDENTITY)
    return invalid(*changes) if changes else stamped(current, proposed, now)


def misnamed_family(bag: BagRecord) -> list[str]:
    """A problem if the bag is not what its family's name makes it: a family is named after its first version."""
    if (bag.version == 1) == (bag.uuid == bag.first_version_uuid):
        return []
    return ["version: the first version, and only that, has its own uuid as first_version_uuid"]


def _place_taken(bag: BagRecord, same_version: str | None) -> list[str]:
    return [] if same_version is None else [f"version: {same_version} is version {bag.version} of this family"]


def _dangling(bag: BagRecord, known_nodes: Collection[str], known_bags: Collection[str]) -> list[str]:
    problems = unknown_nodes([bag.ingest_node], known_nodes, "ingest_node")
    problems += unknown_nodes([bag.admin_node], known_nodes, "admin_node")
    problems += unknown_nodes(bag.replicating_nodes, known_nodes, "replicating_nodes")
    for field in ("rights", "interpretive"):
        missing = sorted(set(getattr(bag, field)) - set(known_bags))
        problems += [f"{field}: no such bag: {uuid}" for uuid in missing]
    return problems
