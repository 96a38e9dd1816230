"""What a deposit carries until its bag has its copies."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from models.manifests.base import BagManifest, Manifest


class DepositFacts(Manifest):
    """A deposit as it was accepted: with the same source, these make the same bag, byte for byte."""

    bag: str
    """The uuid that its bag gets."""
    node: str | None = None
    """Who accepted it, and administers its bag: we. None where that was not kept yet."""
    source: str
    """A folder, a bag (folder or tar), or `s3://bucket/prefix/`."""
    source_name: str | None = None
    """What the folder of a source bag's own tag files is called: `<source_name>-tags/`."""
    as_is: bool = False
    """Whether the source is a DPN bag already, taken byte for byte."""
    member: str
    local_id: str
    title: str | None = None
    bag_type: Literal["data", "interpretive", "rights"] = "data"
    rights: list[str] = Field(default_factory=list)
    interpretive: list[str] = Field(default_factory=list)
    first_version_uuid: str
    version: int = 1
    bagging_date: date
    accepted_at: datetime
    submitted_by: str
    named_over_http: bool = False
    """Whether the source must lie in `ingest.source_folders` when it is read, too."""


class IngestContact(Manifest):
    """Who ingested, as it stands in the bag: kept, so that packaged again it is the same when settings change."""

    node_address: str
    contact_name: str
    contact_email: str


class PlannedTransfer(Manifest):
    """A node that is to keep a copy of the deposit's bag; chosen once, kept before anything is done about it."""

    replication_id: str
    to_node: str
    link: str
    created_at: datetime
    retries: int = 0
    """The ingest's own count when the node was chosen."""


class IngestManifest(BagManifest):
    """An ingest's state: what was deposited, its bag, where it is kept, who else is to keep it."""

    deposit: DepositFacts
    contact: IngestContact | None = None
    registered: bool = False
    """Whether bag and digest are in our registry."""
    transfers: list[PlannedTransfer] = Field(default_factory=list)
    """Every node ever chosen, those that cancelled included."""
    retries: int = 0
    """How often an operator had it tried again: a node that declined before that may be asked again."""

    @property
    def needs_no_staging(self) -> bool:
        """Whether the bag is in our store and our registry. Only who must still be offered it needs it staged; who
        that is depends on what the other nodes have done, and the stage `record` sees to it."""
        return self.registered and self.receipt is not None

    def try_again(self) -> None:
        super().try_again()
        self.retries += 1
