"""The rules of what is said once and never changed: fixity checks, and a bag's Ingest records.

An Ingest record says that a bag reached its number of copies, or lost it. Its admin node writes one for each such
change and none where nothing changed, so that the newest one is the bag's state.
Source: DPN REST API v2, fixity checks and ingests.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from dpn.identifiers import UUID_VERSION_4
from dpn.registry.records import BagRecord, FixityCheckRecord, IngestRecord
from dpn.registry.rules.decisions import LOCAL_ONLY, Accepted, Caller, Decision, invalid, unknown_nodes

ONE_SECOND = timedelta(seconds=1)
"""What records count time in."""


def create_fixity_check(
    proposed: FixityCheckRecord, *, caller: Caller, bag_known: bool, known_nodes: Collection[str]
) -> Decision[FixityCheckRecord]:
    """May this fixity check be recorded?"""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = unknown_nodes([proposed.node], known_nodes, "node")
    problems += _without_bag(proposed, bag_known) + _not_version_4(proposed) + impossible_times(proposed)
    return invalid(*problems) if problems else Accepted(proposed)


def create_ingest(
    proposed: IngestRecord, *, caller: Caller, bag_known: bool, known_nodes: Collection[str]
) -> Decision[IngestRecord]:
    """May this Ingest record be recorded?"""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = unknown_nodes(proposed.replicating_nodes, known_nodes, "replicating_nodes")
    problems += _without_bag(proposed, bag_known) + _not_version_4(proposed)
    return invalid(*problems) if problems else Accepted(proposed)


def impossible_times(check: FixityCheckRecord) -> list[str]:
    """A problem if the check was recorded before it was made."""
    if check.fixity_at <= check.created_at:
        return []
    return ["fixity_at: a check cannot be recorded (created_at) before it was made"]


def ingest_due(
    bag: BagRecord, latest: IngestRecord | None, *, copies: int, ingest_id: str, now: datetime
) -> IngestRecord | None:
    """The Ingest record that the bag's nodes call for after `latest`; None if nothing has changed since.

    Never of the same second as `latest`, nor before it: which is the newest must be plain to everybody.
    """
    reached = len(bag.replicating_nodes) >= copies
    if reached == (latest is not None and latest.ingested):
        return None
    return IngestRecord(
        ingest_id=ingest_id,
        bag=bag.uuid,
        ingested=reached,
        replicating_nodes=bag.replicating_nodes,
        created_at=now if latest is None else max(now, latest.created_at + ONE_SECOND),
    )


def _without_bag(proposed: FixityCheckRecord | IngestRecord, bag_known: bool) -> list[str]:
    return [] if bag_known else [f"bag: no such bag: {proposed.bag}"]


def _not_version_4(proposed: FixityCheckRecord | IngestRecord) -> list[str]:
    return [] if UUID_VERSION_4.match(proposed.key[0]) else [f"{proposed.KEY[0]}: not a version 4 UUID"]
