"""The Store over one S3 bucket and prefix."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import Misconfigured, StoreMismatch
from dpn.settings import StoreSettings
from dpn.storage.base import (
    READ_BYTES,
    Capabilities,
    Checkpoint,
    Fence,
    Progress,
    StoredObject,
    check_key,
)
from dpn.storage.errors import StoreMissing
from dpn.storage.evidence import Differs, Proven, Unproven, from_receipt, judge
from dpn.storage.s3 import objects
from dpn.storage.s3.connection import Connection, Retries
from dpn.storage.s3.janitor import abort_abandoned_uploads
from dpn.storage.s3.probe import probe
from dpn.storage.s3.put import Bucket, Put
from dpn.storage.source import open_source
from models.manifests import Receipt, UploadState


class S3Store:
    """See dpn.storage.base.Store for what it promises."""

    def __init__(self, settings: StoreSettings, *, clock: Clock, retries: Retries | None = None) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._connection = Connection(settings, retries or Retries())
        self._capabilities: Capabilities | None = None
        self._probing = threading.Lock()

    def probe(self) -> Capabilities:
        capabilities = probe(self._connection)
        self._capabilities = capabilities
        return capabilities

    def put(
        self,
        source: Path,
        key: str,
        *,
        sha256: str,
        metadata: Mapping[str, str],
        resume: UploadState | None,
        checkpoint: Checkpoint,
        cancellation: Cancellation,
        fence: Fence = lambda: None,
        progress: Progress | None = None,
    ) -> Receipt:
        check_key(key)
        if resume and resume.key != key:
            raise ValueError(f"the upload to resume is of {resume.key}, not of {key}")
        bucket = Bucket(self._connection, self._settings, self._known_capabilities(), self._clock)
        with open_source(source) as file:
            return Put(
                bucket,
                file,
                key,
                sha256=sha256,
                metadata=metadata,
                resume=resume,
                checkpoint=checkpoint,
                fence=fence,
                cancellation=cancellation,
                progress=progress,
            ).run()

    def head(self, key: str) -> StoredObject | None:
        stored = objects.find(self._connection, self._full_key(key))
        return replace(stored, key=key) if stored else None

    def confirm(
        self, receipt: Receipt, *, read_back: bool = False, cancellation: Cancellation | None = None
    ) -> Receipt:
        cancellation = cancellation or Cancellation()
        stored = self._find_receipted(receipt, cancellation)
        judgement = judge(stored, *from_receipt(receipt))
        if isinstance(judgement, Unproven) or (read_back and isinstance(judgement, Proven)):
            judgement = objects.judge_by_reading(self._connection, stored, receipt.sha256, cancellation)
        if isinstance(judgement, Differs):
            raise StoreMismatch(f"{receipt.url}: {judgement.why}")
        return receipt.model_copy(
            update={"confirmed_at": self._clock.now(), "confirmed_by": judgement.by, "etag": stored.etag}
        )

    def read(self, key: str, *, chunk_size: int = READ_BYTES) -> Iterator[bytes]:
        return objects.read(self._connection, self._full_key(key), chunk_size=chunk_size)

    def abort_abandoned_uploads(self, *, older_than: timedelta, keep: Collection[str]) -> int:
        return abort_abandoned_uploads(self._connection, begun_before=self._clock.now() - older_than, keep=keep)

    def _known_capabilities(self) -> Capabilities:
        with self._probing:
            return self._capabilities or self.probe()

    def _find_receipted(self, receipt: Receipt, cancellation: Cancellation) -> StoredObject:
        full_key = self._full_key(receipt.key)
        url = f"s3://{self._connection.bucket}/{full_key}"
        if url != receipt.url:
            raise Misconfigured(f"{receipt.url} is not in this store ({url} would be): correct store.url")
        stored = objects.find(self._connection, full_key, version_id=receipt.version_id, cancellation=cancellation)
        if stored is None:
            objects.check_bucket(self._connection)
            raise StoreMissing(f"{url} is not there any more")
        return stored

    def _full_key(self, key: str) -> str:
        return self._connection.prefix + check_key(key)
