"""What a work item carries from stage to stage, as JSON with a version number."""

from __future__ import annotations

from models.manifests.base import (
    MANIFEST_VERSION,
    BagManifest,
    ItemManifest,
    Manifest,
    ManifestTooNew,
    ManifestUnreadable,
    Receipt,
    StagedFile,
    StageSummary,
    StoreChecksum,
    UploadState,
    ValidationResult,
    upload_owned,
)
from models.manifests.fixity import CheckManifest, CopyFacts, RestoreRequest
from models.manifests.ingest import DepositFacts, IngestContact, IngestManifest, PlannedTransfer
from models.manifests.notice import NoticeManifest
from models.manifests.recovery import AskedNode, RecoveryManifest
from models.manifests.replication import ReplicationManifest, TransferFacts
from models.manifests.restore import RestoreFacts, RestoreManifest

__all__ = [
    "MANIFEST_VERSION",
    "AskedNode",
    "BagManifest",
    "CheckManifest",
    "CopyFacts",
    "DepositFacts",
    "IngestContact",
    "IngestManifest",
    "ItemManifest",
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
    "upload_owned",
]
