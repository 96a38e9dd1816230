"""One S3 store as a put or a repair needs it."""

from __future__ import annotations

from dataclasses import dataclass

from dpn.clock import Clock
from dpn.s3.connection import Connection
from dpn.storage.digests import Digests
from dpn.storage.evidence import Proven
from dpn.storage.settings import StoreSettings
from dpn.storage.stored_object import Capabilities, StoredObject
from models.manifests import Receipt


@dataclass(frozen=True)
class Bucket:
    """What is known of the store, and what its receipts say."""

    connection: Connection
    settings: StoreSettings
    capabilities: Capabilities
    clock: Clock

    def url(self, key: str) -> str:
        return f"s3://{self.connection.bucket}/{self.connection.prefix}{key}"

    def receipt(self, key: str, stored: StoredObject, digests: Digests, proven: Proven) -> Receipt:
        """What is kept for ever of a copy that was just proven."""
        return Receipt(
            store=self.settings.name,
            url=self.url(key),
            key=key,
            version_id=stored.version_id,
            size=stored.size,
            sha256=digests.sha256,
            part_size=digests.plan.part_size,
            part_sha256=list(digests.part_sha256),
            store_checksum=proven.checksum,
            etag=stored.etag,
            confirmed_at=self.clock.now(),
            confirmed_by=proven.by,
        )
