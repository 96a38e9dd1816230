"""What every item carries, what every item that takes a bag through staging carries, and the parts of these.

A manifest only ever gains fields with defaults inside one version; what cannot be read that way gets a new
version and an upgrade step in `MANIFEST_UPGRADES`. A worker refuses a manifest newer than it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST_VERSION = 1

MANIFEST_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From version N to N + 1."""

MAX_ERRORS_KEPT = 30


class ManifestUnreadable(ValueError):
    """The manifest is damaged: compare it with a backup, repair it or cancel the item."""


class ManifestTooNew(ManifestUnreadable):
    """The manifest was written by a newer version: upgrade this worker."""


class Manifest(BaseModel):
    """Base of what is persisted in `WorkItem.manifest`, and of its parts."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class StageSummary(Manifest):
    """How one stage went so far. `errors` keeps the last 30 of the present round, oldest first."""

    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0
    errors: list[str] = Field(default_factory=list)
    token: int = 0
    """The lease token of the last run that said how it went: those since then died."""

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
    tags_proven: bool | None = None
    """Whether the tag manifest's digest proves all tag files but the tag manifests themselves; none: not seen."""
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


class ItemManifest(Manifest):
    """What every item carries, whatever it is for, and what the core asks of it.

    What stages bytes, uploads, or may be tried again with fresh budgets says so by overriding what is here.
    """

    manifest_version: int = MANIFEST_VERSION
    summaries: dict[str, StageSummary] = Field(default_factory=dict)
    restarts: int = 0
    """How often the item has started over."""

    @classmethod
    def read(cls, stored: Any) -> Self:
        """The manifest from its stored JSON, upgraded to the present version.

        Raises ManifestUnreadable, and of these ManifestTooNew where an upgrade of this software would help.
        """
        try:
            version = int(stored.get("manifest_version", 1))
            while version < MANIFEST_VERSION:
                stored = MANIFEST_UPGRADES[version](stored)
                version += 1
            if version == MANIFEST_VERSION:
                return cls.model_validate(stored)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
                for one in error.errors(include_url=False, include_input=False)
            )
            raise ManifestUnreadable(f"the manifest is damaged: {wrong}: repair it or cancel the item") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ManifestUnreadable(f"the manifest is damaged: {error}: repair it or cancel the item") from error
        raise ManifestTooNew(f"manifest version {version}, this worker knows up to {MANIFEST_VERSION}: upgrade it")

    @property
    def staged_file(self) -> StagedFile | None:
        """What the item has on a staging volume, or None."""
        return None

    @property
    def needs_no_staging(self) -> bool:
        """Whether all that is left to do can be done without the staged bytes."""
        return False

    @property
    def is_evidence(self) -> bool:
        """Whether what is staged is to be kept for a person to look at, if the item does not succeed."""
        return False

    def forget_staged(self) -> None:
        """What was staged is gone: what was learned from it must be learned again."""

    def try_again(self) -> None:
        """An operator has the item tried again: with fresh budgets."""
        self.restarts = 0


def upload_owned(stored: Any) -> str | None:
    """The id of the upload that a stored manifest, which may be damaged, says its item has under way, or None."""
    upload = stored.get("upload") if isinstance(stored, Mapping) else None
    return str(upload.get("upload_id")) if isinstance(upload, Mapping) else None


class BagManifest(ItemManifest):
    """What every item carries that takes a bag through staging to a store, or the other way."""

    staged: StagedFile | None = None
    validation: ValidationResult | None = None
    upload: UploadState | None = None
    receipt: Receipt | None = None
    quarantined: str | None = None
    """Where an invalid bag was put aside, relative to its volume."""

    @property
    def staged_file(self) -> StagedFile | None:
        return self.staged

    @property
    def needs_no_staging(self) -> bool:
        return self.receipt is not None

    @property
    def is_evidence(self) -> bool:
        return True

    def forget_staged(self) -> None:
        self.staged = None
        self.validation = None
