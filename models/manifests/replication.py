"""What a replication carries, and the telling of its owner that it was given up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.manifests.base import MANIFEST_VERSION, BagManifest, Manifest, StageSummary


class TransferFacts(Manifest):
    """What we accepted from the transfer and its bag's record; a later change of any of these stops the item."""

    replication_id: str
    from_node: str
    to_node: str
    bag: str
    link: str
    fixity_algorithm: str
    size: int
    local_id: str
    member: str
    version: int
    bag_type: str
    registry_fixity: str | None = None
    """The owner's digest of the tag manifest, where the owner's registry shows one."""


class ReplicationManifest(BagManifest):
    """A replication's state: what was accepted, what was staged, how it was judged, where it is kept."""

    transfer: TransferFacts | None = None
    not_as_recorded: int = 0
    """How often what was copied was not what its owner's records say."""
    fixity_sent: str | None = None
    """The tag manifest digest that the owner has acknowledged."""
    stored_acknowledged: bool = False


class NoticeManifest(Manifest):
    """A cancellation that we owe the owner of a transfer: of a replication to us, or of a restore from us."""

    manifest_version: int = MANIFEST_VERSION
    summaries: dict[str, StageSummary] = Field(default_factory=dict)
    restarts: int = 0
    kind: Literal["replication", "restore"] = "replication"
    replication_id: str
    """The transfer's id, whichever kind it is."""
    cancel_reason: Literal["reject", "bag_invalid", "fixity_reject", "other"]
    cancel_reason_detail: str = Field(max_length=255)
    caused_by_item: int | None
    """None for what was declined before there was an item."""
