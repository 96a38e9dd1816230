"""What an S3 store really does with checksums and conditional writes, found out by trying.

S3-compatible stores differ in exactly this, whatever their documentation says, and an upload is a bad moment to
learn it. A tiny object under `.dpn-probe/` is written in every way that we rely on, then removed. A key that may
not delete leaves it there: give that prefix a lifecycle rule.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import partial
from typing import Any

from dpn.errors import Misconfigured, StoreUnavailable, TransientError
from dpn.s3.connection import Connection
from dpn.s3.digests import base64_of, composite_sha256
from dpn.s3.errors import PreconditionFailed
from dpn.s3.plan import PartPlan
from dpn.storage.digests import Digester
from dpn.storage.s3 import objects
from dpn.storage.s3.crc import crc64nvme
from dpn.storage.s3.upload import Written
from dpn.storage.stored_object import Capabilities, StoredObject

PROBE_PREFIX = ".dpn-probe/"
CONTENT = b"A probe of what this store checks. It may be removed at any time.\n"
WRONG_SHA256 = base64_of(hashlib.sha256(b"something else").hexdigest())
CONDITIONS: tuple[Any, Any] = ({"IfNoneMatch": "*"}, {"IfMatch": '"00000000000000000000000000000000"'})
"""Conditions that do not hold for the probe: a store that heeds them refuses."""
REFUSALS = (TransientError, Misconfigured)
"""What stores answer to a request that they do not know, or whose content does not match: it differs by store."""


def probe(connection: Connection) -> Capabilities:
    """Raises StoreUnavailable; Misconfigured if the store cannot be used at all."""
    try:
        return _Probe(connection).run()
    except TransientError as error:
        # Of no bag: that the store does not do what it should is no failure of whatever is to be stored.
        raise StoreUnavailable(connection.service, f"it cannot be tried out: {error}") from error


class _Probe:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = connection.client
        self._key = f"{connection.prefix}{PROBE_PREFIX}{secrets.token_hex(8)}"
        self._where: Any = {"Bucket": connection.bucket, "Key": self._key}
        digester = Digester(PartPlan(len(CONTENT), len(CONTENT)), md5=True, crc64nvme=crc64nvme)
        digester.digest(next(PartPlan(len(CONTENT), len(CONTENT)).parts()), [memoryview(CONTENT)])
        self._digests = digester.digests()
        # As real puts do: a bucket with a default retention takes no object without a checksum. An MD5 is no
        # hindrance to a store that reckons a CRC64NVME where it was sent none.
        self._whole: Any = {**self._where, "Body": CONTENT, "ContentMD5": base64_of(self._digests.etag or "")}

    def run(self) -> Capabilities:
        # The plainest write comes first: if it fails, the settings are wrong, not the store's checksums.
        in_one_piece = self._put_plainly()
        puts = [self._refuses_to_put(condition) for condition in CONDITIONS]
        checks_parts, completes, in_parts = self._upload_in_parts()
        refuses_overwriting, replaces_on_condition = (all(both) for both in zip(puts, completes, strict=True))
        return Capabilities(
            refuses_wrong_sha256=checks_parts,
            shows_sha256=_shows(in_parts, "SHA256", composite_sha256([self._digests.sha256])),
            shows_crc64nvme=_shows(in_one_piece, "CRC64NVME", self._digests.crc64nvme),
            etag_is_md5=in_one_piece.etag == self._digests.etag and in_parts.etag == self._etag_in_parts(),
            refuses_overwriting=refuses_overwriting,
            replaces_on_condition=replaces_on_condition,
            may_delete=self._remove({in_one_piece.version_id, in_parts.version_id}),
        )

    def _put_plainly(self) -> StoredObject:
        return self._look(self._call(self._client.put_object, **self._whole))

    def _refuses_to_put(self, condition: Any) -> bool:
        try:
            self._probe(self._client.put_object, **self._whole, **condition)
        except PreconditionFailed:
            return True
        except REFUSALS:
            return False
        return False

    def _upload_in_parts(self) -> tuple[bool, list[bool], StoredObject]:
        """Whether parts are checked, which conditions a Complete heeds, and what the store shows afterwards."""
        try:
            return self._upload(checksums=True)
        except REFUSALS:
            return self._upload(checksums=False)

    def _upload(self, *, checksums: bool) -> tuple[bool, list[bool], StoredObject]:
        algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if checksums else {}
        right: Any = {"ChecksumSHA256": base64_of(self._digests.sha256)} if checksums else {}
        sent: Any = right or {"ContentMD5": self._whole["ContentMD5"]}
        upload = self._call(self._client.create_multipart_upload, **self._where, **algorithm)
        where = {**self._where, "UploadId": self._connection.given(upload, "UploadId")}
        try:
            checks_parts = checksums and self._refuses_part(where)
            part = self._call(self._client.upload_part, **where, PartNumber=1, Body=CONTENT, **sent)
            parts = {"Parts": [{"PartNumber": 1, "ETag": self._connection.given(part, "ETag"), **right}]}
            completes_refused, complete = self._refuses_to_complete(where, parts)
        except REFUSALS:
            self._call(self._client.abort_multipart_upload, **where)
            raise
        return checks_parts, completes_refused, self._look(complete)

    def _refuses_part(self, where: Any) -> bool:
        try:
            self._probe(self._client.upload_part, **where, PartNumber=1, Body=CONTENT, ChecksumSHA256=WRONG_SHA256)
        except REFUSALS:
            return True
        return False

    def _refuses_to_complete(self, where: Any, parts: Any) -> tuple[list[bool], Any]:
        """Completes the upload over the object that is there: first so that the store should refuse.

        Returns which conditions it heeded, and its answer.
        """
        complete = {**where, "MultipartUpload": parts}
        refused: list[bool] = []
        for condition in CONDITIONS:
            try:
                answer = self._probe(self._client.complete_multipart_upload, **complete, **condition)
            except PreconditionFailed:
                refused.append(True)
            except REFUSALS:
                refused.append(False)
            else:
                # It is complete now, and can be tried no more.
                return [*refused, *[False] * (len(CONDITIONS) - len(refused))], answer
        return refused, self._call(self._client.complete_multipart_upload, **complete)

    def _remove(self, versions: set[str | None]) -> bool:
        try:
            for version_id in versions:
                objects.remove(self._connection, self._key, version_id)
        except Misconfigured:
            return False
        return True

    def _call(self, request: Any, *, attempts: int | None = None, **parameters: Any) -> Any:
        return self._connection.call("probing", partial(request, **parameters), attempts=attempts)

    def _probe(self, request: Any, **parameters: Any) -> Any:
        """Tried once: a refusal is what we want to know."""
        return self._call(request, attempts=1, **parameters)

    def _look(self, answer: Any) -> StoredObject:
        """What the store shows of what it was just given, and not of what was there before."""
        written = Written.from_answer(answer)

        def looked() -> StoredObject | None:
            found = objects.find(self._connection, self._key)
            return found if found and (written.etag is None or found.etag in (None, written.etag)) else None

        return self._connection.wait_visible(looked)

    def _etag_in_parts(self) -> str:
        md5 = bytes.fromhex(self._digests.etag or "")
        return f"{hashlib.md5(md5, usedforsecurity=False).hexdigest()}-1"


def _shows(stored: StoredObject, algorithm: str, value: str | None) -> bool:
    checksum = stored.checksum
    return checksum is not None and checksum.algorithm == algorithm and checksum.value.partition("-")[0] == value
