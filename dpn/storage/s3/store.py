"""The Store over one S3 bucket and prefix."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Unpack

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.errors import Misconfigured, StoreMismatch, StoreMissing
from dpn.s3.limits import AnswerLimits, Retries
from dpn.s3.pages import list_objects
from dpn.s3.plan import Part
from dpn.storage.availability import Availability, RestoreRequested
from dpn.storage.evidence import Differs, Proven, Unproven, from_receipt, judge
from dpn.storage.fetch import Wanted
from dpn.storage.retrieval import Retrieved, choose_plan, refuse_other_size, retrieve
from dpn.storage.s3 import objects, thaw
from dpn.storage.s3.bucket import Bucket
from dpn.storage.s3.connection import connect
from dpn.storage.s3.crc import combine_crc64nvme, crc64nvme
from dpn.storage.s3.janitor import abort_abandoned_uploads
from dpn.storage.s3.probe import probe
from dpn.storage.s3.put import Put
from dpn.storage.s3.ranges import read_range
from dpn.storage.s3.replace import Replacement
from dpn.storage.settings import StoreSettings, Tier
from dpn.storage.source import open_source
from dpn.storage.store import PutArguments, Replaced, check_key, is_bag_key
from dpn.storage.stored_object import READ_BYTES, Capabilities, Progress, StoredObject
from models.manifests import Receipt, UploadState


class S3Store:
    """See dpn.storage.store.Store for what it promises."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        clock: Clock,
        retries: Retries | None = None,
        limits: AnswerLimits | None = None,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._connection = connect(settings, clock.monotonic, retries, limits)
        self._capabilities: Capabilities | None = None
        self._probing = threading.Lock()

    def probe(self) -> Capabilities:
        capabilities = probe(self._connection)
        self._capabilities = capabilities
        return capabilities

    def put(self, source: Path, key: str, **how: Unpack[PutArguments]) -> Receipt:
        with open_source(source) as file:
            return Put(self._bucket(), file, self._resumable(key, how["resume"]), **how).run()

    def replace(
        self, source: Path, key: str, *, bad: StoredObject | None, **how: Unpack[PutArguments]
    ) -> Replaced:
        with open_source(source) as file:
            key = self._resumable(key, how["resume"])
            return Replacement(self._bucket(), file, key, bad=bad, **how).replace()

    def head(self, key: str) -> StoredObject | None:
        stored = objects.find(self._connection, self._full_key(key))
        return replace(stored, key=key) if stored else None

    def confirm(
        self, receipt: Receipt, *, read_back: bool = False, cancellation: Cancellation | None = None
    ) -> Receipt:
        cancellation = cancellation or Cancellation()
        read_back = read_back or not self._settings.trusted_checksums
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

    def availability(self, key: str, *, version_id: str | None = None) -> Availability:
        return thaw.availability(self._connection, self._full_key(key), self._clock, version_id=version_id)

    def request_restore(
        self,
        key: str,
        *,
        tier: Tier,
        days: int,
        faster: bool = False,
        version_id: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> RestoreRequested:
        return thaw.request_restore(
            self._connection,
            self._full_key(key),
            self._clock,
            tier=tier,
            days=days,
            faster=faster,
            version_id=version_id,
            cancellation=cancellation or Cancellation(),
        )

    def retrieve(
        self,
        key: str,
        target: Path,
        *,
        receipt: Receipt | None = None,
        cancellation: Cancellation,
        progress: Progress | None = None,
    ) -> Retrieved:
        if receipt and receipt.key != key:
            raise ValueError(f"the receipt is of {receipt.key}, not of {key}")
        stored = self._find_receipted(receipt, cancellation) if receipt else self._find(key, cancellation)
        refuse_other_size(self._url(key), stored, receipt)
        wanted = Wanted(
            where=self._url(key),
            stored=stored,
            receipt=receipt,
            plan=choose_plan(stored, receipt, self._settings.part_size_bytes),
            threads=self._settings.retrieve_threads,
            crc=crc64nvme,
            combine=combine_crc64nvme,
        )

        def read(part: Part, stop: Cancellation) -> Iterator[bytes]:
            return read_range(self._connection, stored, part.offset, part.size, stop)

        return retrieve(wanted, read, target, cancellation=cancellation, progress=progress)

    def open_in_place(self, key: str) -> Path | None:
        check_key(key)
        return None

    def keys(self) -> Iterator[str]:
        return (listed.key for listed in list_objects(self._connection) if is_bag_key(listed.key))

    def marker(self) -> str | None:
        return objects.marker(self._connection)

    def mark(self, text: str) -> None:
        objects.mark(self._connection, text)

    def abort_abandoned_uploads(self, *, older_than: timedelta, keep: Collection[str]) -> int:
        return abort_abandoned_uploads(self._connection, begun_before=self._clock.now() - older_than, keep=keep)

    def _bucket(self) -> Bucket:
        with self._probing:
            capabilities = self._capabilities or self.probe()
        return Bucket(self._connection, self._settings, capabilities, self._clock)

    @staticmethod
    def _resumable(key: str, resume: UploadState | None) -> str:
        """Returns the key; raises ValueError for an upload of another one."""
        if resume and resume.key != key:
            raise ValueError(f"the upload to resume is of {resume.key}, not of {key}")
        return check_key(key)

    def _find_receipted(self, receipt: Receipt, cancellation: Cancellation) -> StoredObject:
        url = self._url(receipt.key)
        if url != receipt.url:
            raise Misconfigured(f"{receipt.url} is not in this store ({url} would be): correct store.url")
        return self._find(receipt.key, cancellation, receipt.version_id)

    def _find(self, key: str, cancellation: Cancellation, version_id: str | None = None) -> StoredObject:
        full_key = self._full_key(key)
        stored = objects.find(self._connection, full_key, version_id=version_id, cancellation=cancellation)
        if stored is None:
            objects.check_bucket(self._connection)
            raise StoreMissing(f"{self._url(key)} is not there{' any more' if version_id else ''}")
        return stored

    def _url(self, key: str) -> str:
        return f"s3://{self._connection.bucket}/{self._full_key(key)}"

    def _full_key(self, key: str) -> str:
        return self._connection.prefix + check_key(key)
