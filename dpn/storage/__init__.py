"""Long-term stores behind one protocol: `file://` folders and `s3://` buckets, Glacier classes included.

A copy counts once it is proven, and the receipt says how (`Receipt.confirmed_by`):

- `store-checksums`: the store checked every part's SHA-256 as it came and shows their composite, or it shows a
  CRC64NVME of its own reckoning over the whole object; equal to what was computed from the bytes sent.
- `etag`: it checks or shows no such checksum, but its entity tag is the MD5 of what it holds; equal to ours.
- `read-back`: neither, or a folder: every byte was read again and hashed. A store that proves nothing cannot be
  used with a storage class that cannot be read back (GLACIER, DEEP_ARCHIVE): `put` refuses before it sends a byte.

Which of them a store offers is tried out (`Store.probe`), not believed.
"""

from __future__ import annotations

from dpn.clock import Clock
from dpn.storage.availability import Availability, RestoreRequested
from dpn.storage.errors import (
    ObjectReplaced,
    ObjectTooLarge,
    SourceChanged,
    StoreCold,
    StoreConflict,
    StoreMissing,
    TargetBusy,
    UploadLost,
)
from dpn.storage.retrieval import Retrieved, discard_partial
from dpn.storage.settings import StoreSettings, Tier
from dpn.storage.store import Replaced, Store
from dpn.storage.stored_object import Capabilities, StoredObject

__all__ = [
    "Availability",
    "Capabilities",
    "ObjectReplaced",
    "ObjectTooLarge",
    "Replaced",
    "RestoreRequested",
    "Retrieved",
    "SourceChanged",
    "Store",
    "StoreCold",
    "StoreConflict",
    "StoreMissing",
    "StoredObject",
    "TargetBusy",
    "Tier",
    "UploadLost",
    "discard_partial",
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
