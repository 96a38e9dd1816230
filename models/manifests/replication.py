"""What a replication carries."""

from __future__ import annotations

from models.manifests.base import BagManifest, Manifest


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

    def try_again(self) -> None:
        super().try_again()
        self.not_as_recorded = 0
