"""What every item carries that takes a bag through staging, and the parts that manifests are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_VERSION = 1

MAX_ERRORS_KEPT = 30


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
    payload_proven: bool | None = None
    """Whether the tag manifest's digest proves the payload, or the tar's that was known before; none: not seen."""
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

    @property
    def is_evidence(self) -> bool:
        """Whether a staged bag is to be kept for a person to look at, if the item does not succeed."""
        return True

    def forget_staged(self) -> None:
        """What was staged is gone: what was learned from it must be learned again."""
        self.staged = None
        self.validation = None
