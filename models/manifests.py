"""What a work item carries from stage to stage, as JSON with a version number.

A manifest only ever gains fields with defaults inside one version; what cannot be read that way gets a new
version and an upgrade step in `MANIFEST_UPGRADES`. A worker refuses a manifest newer than it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_VERSION = 1

MANIFEST_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From version N to N + 1."""

MAX_ERRORS_KEPT = 30


class ManifestUnreadable(ValueError):
    """The manifest is damaged: compare it with a backup, mend it or cancel the item."""


class ManifestTooNew(ManifestUnreadable):
    """The manifest was written by a newer version: upgrade this worker."""


class Manifest(BaseModel):
    """Base of what is persisted in `WorkItem.manifest`."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class StageSummary(Manifest):
    """How one stage went so far. `errors` keeps the last 30 of the present round, oldest first."""

    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0
    errors: list[str] = Field(default_factory=list)

    def add_error(self, text: str) -> None:
        self.errors = [*self.errors, text][-MAX_ERRORS_KEPT:]


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


class StagedFile(Manifest):
    """A bag's tar on a staging volume. `path` is relative to the volume's folder."""

    volume: str
    path: str
    size: int
    tag_manifest_sha256: str


class ValidationResult(Manifest):
    """The verdict on a staged bag. `sha256` is of the whole tar, taken in the same read."""

    valid: bool
    profile: str
    files: int
    bytes: int
    tag_manifest_sha256: str
    sha256: str
    errors: int = 0
    warnings: int = 0
    first_error: str | None = None


class StoreChecksum(Manifest):
    """A checksum that the store itself computed over the object it holds."""

    algorithm: Literal["CRC64NVME", "CRC32", "CRC32C", "SHA256"]
    value: str
    """As the store gives it: base64."""
    type: Literal["FULL_OBJECT", "COMPOSITE"]


class UploadState(Manifest):
    """A multipart upload under way, kept so that a crash resumes it instead of sending the parts again."""

    upload_id: str
    key: str
    part_size: int
    started_at: datetime


class Receipt(Manifest):
    """Proof of one stored copy: enough to prove the copy again without trusting the database that claims it."""

    store: str
    url: str
    key: str
    version_id: str | None = None
    size: int
    sha256: str
    """Of the whole file, lower-case hex."""
    part_size: int
    """Bytes of every part but the last."""
    part_sha256: list[str]
    """Of each part in order, lower-case hex; one entry for an object sent whole."""
    store_checksum: StoreChecksum | None = None
    etag: str | None = None
    confirmed_at: datetime
    confirmed_by: Literal["store-checksums", "etag", "read-back"]
    """By the store's own checksum, by the MD5 that its entity tag is, or by reading everything back."""


class BagManifest(Manifest):
    """What every item carries that takes a bag through staging to a store, or the other way."""

    manifest_version: int = MANIFEST_VERSION
    summaries: dict[str, StageSummary] = Field(default_factory=dict)
    restarts: int = 0
    staged: StagedFile | None = None
    validation: ValidationResult | None = None
    upload: UploadState | None = None
    receipt: Receipt | None = None
    quarantined: str | None = None
    """Where an invalid bag was put aside, relative to its volume."""

    @property
    def needs_no_staging(self) -> bool:
        """Whether all that is left to do can be done without the staged bytes."""
        return self.receipt is not None

    def forget_staged(self) -> None:
        """What was staged is gone: what was learned from it must be learned again."""
        self.staged = None
        self.validation = None


class ReplicationManifest(BagManifest):
    """A replication's state: what was accepted, what was staged, how it was judged, where it is kept."""

    transfer: TransferFacts | None = None
    not_as_recorded: int = 0
    """How often what was copied was not what its owner's records say."""
    fixity_sent: str | None = None
    """The tag manifest digest that the owner has acknowledged."""
    stored_acknowledged: bool = False


class DepositFacts(Manifest):
    """A deposit as it was accepted: with the same source, these make the same bag, byte for byte."""

    bag: str
    """The uuid that its bag gets."""
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
        """Never: until the end, another node may have to be offered the bag."""
        return False


class CopyFacts(Manifest):
    """The copy that is to be read, as it was known when the item was made."""

    bag: str
    store: str
    key: str
    size: int
    sha256: str
    tag_manifest_sha256: str
    receipt: Receipt


class RestoreRequest(Manifest):
    """What was asked of a cold store."""

    tier: str
    days: int
    requested_at: datetime
    taken: bool = False
    """Whether the store is known to have taken the request."""


class CheckManifest(BagManifest):
    """A fixity check's state: which copy, how it was fetched, what was found. It makes no receipt."""

    copied: CopyFacts
    restore: RestoreRequest | None = None
    readable_until: datetime | None = None
    """When what was restored from cold storage goes cold again."""
    in_place: bool = False
    """Whether the copy is read where it lies."""
    began_at: datetime | None = None
    """When the reading began that the verdict comes from."""
    found: str | None = None
    """What is wrong with the copy; none while nothing is known to be."""
    judged: bool = False
    """Whether the verdict stands: bad if anything was found. It is not taken again."""
    recorded: bool = False
    """Whether the FixityCheck record is in our registry."""

    @property
    def needs_no_staging(self) -> bool:
        """Whether all that is left to do is to say what was found."""
        return self.judged

    def forget_staged(self) -> None:
        """What was staged is gone. A verdict outlives the bytes that it was taken from."""
        self.staged = None
        if not self.judged:
            self.validation = None


class NoticeManifest(Manifest):
    """A cancellation that we owe the owner of a transfer."""

    manifest_version: int = MANIFEST_VERSION
    summaries: dict[str, StageSummary] = Field(default_factory=dict)
    restarts: int = 0
    replication_id: str
    cancel_reason: Literal["reject", "bag_invalid", "fixity_reject", "other"]
    cancel_reason_detail: str = Field(max_length=255)
    caused_by_item: int


AnyManifest = ReplicationManifest | IngestManifest | CheckManifest | NoticeManifest

MANIFEST_TYPES: dict[
    str, type[ReplicationManifest] | type[IngestManifest] | type[CheckManifest] | type[NoticeManifest]
] = {
    "replication": ReplicationManifest,
    "ingest": IngestManifest,
    "fixity": CheckManifest,
    "notice": NoticeManifest,
}


def read_manifest(task: str, stored: dict[str, Any]) -> AnyManifest:
    """The manifest of an item of `task` from its stored JSON, upgraded to the present version.

    Raises ManifestUnreadable, and of these ManifestTooNew where an upgrade of this software would help.
    """
    try:
        version = int(stored.get("manifest_version", 1))
        while version < MANIFEST_VERSION:
            stored = MANIFEST_UPGRADES[version](stored)
            version += 1
        if version == MANIFEST_VERSION:
            return MANIFEST_TYPES[task].model_validate(stored)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestUnreadable(f"the manifest is damaged: {error}: mend it or cancel the item") from error
    raise ManifestTooNew(f"manifest version {version}, this worker knows up to {MANIFEST_VERSION}: upgrade it")
