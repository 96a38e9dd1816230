"""What the nodes that were asked to keep a copy of a deposit's bag say of it, as it stands in our registry."""

from __future__ import annotations

from collections.abc import Mapping

from dpn.database import Sessions, reading
from dpn.registry.catalogue import TRANSFERS, find_many
from dpn.registry.records import ReplicationRecord
from models.manifests import IngestManifest, PlannedTransfer

Transfers = Mapping[str, ReplicationRecord]
"""By their ids."""


def transfers_of(sessions: Sessions, manifest: IngestManifest) -> Transfers:
    """The planned transfers that are in our registry."""
    wanted = [(planned.replication_id,) for planned in manifest.transfers]
    with reading(sessions) as session:
        return {key[0]: record for key, record in find_many(session, TRANSFERS, wanted).items()}


def stored_at(known: Transfers, manifest: IngestManifest) -> list[str]:
    """The nodes that say that they have it."""
    return [planned.to_node for planned in manifest.transfers if is_stored(known, planned)]


def is_stored(known: Transfers, planned: PlannedTransfer) -> bool:
    record = known.get(planned.replication_id)
    return record is not None and record.stored


def is_declined(known: Transfers, planned: PlannedTransfer) -> bool:
    record = known.get(planned.replication_id)
    return record is not None and record.cancelled
