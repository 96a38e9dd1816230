"""Which store the settings name."""

from __future__ import annotations

from dpn.clock import Clock
from dpn.storage.settings import StoreSettings
from dpn.storage.store import Store


def open_store(settings: StoreSettings, *, clock: Clock) -> Store:
    """The store that the settings name; nothing is asked of it yet. Raises Misconfigured."""
    if settings.url.startswith("file:"):
        from dpn.storage.folder import FolderStore

        return FolderStore(settings, clock=clock)
    # Only now: boto3 costs every process that needs no S3 some 15 MB and a quarter of a second.
    from dpn.storage.s3.store import S3Store

    return S3Store(settings, clock=clock)
