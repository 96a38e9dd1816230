"""Long-term stores behind one protocol: `file://` folders and `s3://` buckets, Glacier classes included."""

from __future__ import annotations

from dpn.clock import Clock
from dpn.settings import StoreSettings
from dpn.storage.base import Capabilities, Store, StoredObject
from dpn.storage.errors import (
    ObjectTooLarge,
    SourceChanged,
    StoreCold,
    StoreConflict,
    StoreMissing,
    UploadLost,
)

__all__ = [
    "Capabilities",
    "ObjectTooLarge",
    "SourceChanged",
    "Store",
    "StoreCold",
    "StoreConflict",
    "StoreMissing",
    "StoredObject",
    "UploadLost",
    "open_store",
]


def open_store(settings: StoreSettings, *, clock: Clock) -> Store:
    """The store that the settings name; nothing is asked of it yet. Raises Misconfigured."""
    if settings.url.startswith("file:"):
        from dpn.storage.folder import FolderStore

        return FolderStore(settings, clock=clock)
    # Only now: boto3 costs every process that needs no S3 some 15 MB and a quarter of a second.
    from dpn.storage.s3.store import S3Store

    return S3Store(settings, clock=clock)
