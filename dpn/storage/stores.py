"""Which store the settings name."""

from __future__ import annotations

from dpn.clock import Clock
from dpn.storage.settings import StoreSettings
from dpn.storage.store import Store


def open_store(settings: StoreSettings, *, clock: Clock) -> Store:
    """The store that the settings name; nothing is asked of it yet. Raises Misconfigured."""
    if settings.url.startswith("file:"):
        from dpn.storage.folder.store import FolderStore

        return FolderStore(settings, clock=clock)
    # Only now: botocore costs a process that needs no S3 some 25 MB and 0.2 s of processor.
    from dpn.storage.s3.store import S3Store

    return S3Store(settings, clock=clock)
