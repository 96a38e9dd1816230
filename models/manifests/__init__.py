"""What a work item carries from stage to stage, as JSON with a version number.

A manifest only ever gains fields with defaults inside one version; what cannot be read that way gets a new
version and an upgrade step in `MANIFEST_UPGRADES`. A worker refuses a manifest newer than it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.manifests.base import (
    MANIFEST_VERSION,
    BagManifest,
    Manifest,
    Receipt,
    StagedFile,
    StageSummary,
    StoreChecksum,
    UploadState,
    ValidationResult,
)
from models.manifests.fixity import CheckManifest, CopyFacts, RestoreRequest
from models.manifests.ingest import DepositFacts, IngestContact, IngestManifest, PlannedTransfer
from models.manifests.notice import NoticeManifest
from models.manifests.recovery import AskedNode, RecoveryManifest
from models.manifests.replication import ReplicationManifest, TransferFacts
from models.manifests.restore import RestoreFacts, RestoreManifest

__all__ = [
    "MANIFEST_VERSION",
    "AnyManifest",
    "AskedNode",
    "BagManifest",
    "CheckManifest",
    "CopyFacts",
    "DepositFacts",
    "IngestContact",
    "IngestManifest",
    "Manifest",
    "ManifestTooNew",
    "ManifestUnreadable",
    "NoticeManifest",
    "PlannedTransfer",
    "Receipt",
    "RecoveryManifest",
    "ReplicationManifest",
    "RestoreFacts",
    "RestoreManifest",
    "RestoreRequest",
    "StageSummary",
    "StagedFile",
    "StoreChecksum",
    "TransferFacts",
    "UploadState",
    "ValidationResult",
    "read_manifest",
]

MANIFEST_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From version N to N + 1."""


class ManifestUnreadable(ValueError):
    """The manifest is damaged: compare it with a backup, mend it or cancel the item."""


class ManifestTooNew(ManifestUnreadable):
    """The manifest was written by a newer version: upgrade this worker."""


AnyManifest = (
    ReplicationManifest | IngestManifest | CheckManifest | RestoreManifest | RecoveryManifest | NoticeManifest
)

MANIFEST_TYPES: dict[str, type[AnyManifest]] = {
    "replication": ReplicationManifest,
    "ingest": IngestManifest,
    "fixity": CheckManifest,
    "restore": RestoreManifest,
    "recovery": RecoveryManifest,
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
