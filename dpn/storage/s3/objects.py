"""The single-object requests of S3 with our types: look, read, remove."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from dpn.cancellation import Cancellation
from dpn.errors import Misconfigured, StoreMissing
from dpn.s3.connection import Connection, named_version
from dpn.s3.digests import base64_of
from dpn.storage.evidence import Differs, Proven
from dpn.storage.s3.metadata import decode_metadata, encode_metadata
from dpn.storage.s3.ranges import read_range
from dpn.storage.store import MARKER
from dpn.storage.stored_object import READ_BYTES, StoredObject
from models.manifests import StoreChecksum

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

Algorithm = Literal["SHA256", "CRC64NVME"]
MARKER_METADATA = "marker"
ALGORITHMS: tuple[Algorithm, ...] = ("SHA256", "CRC64NVME")


def find(
    connection: Connection, key: str, *, version_id: str | None = None, cancellation: Cancellation | None = None
) -> StoredObject | None:
    """What the store says of the object at the full `key`; None if it answers that there is nothing."""
    version: Any = {"VersionId": version_id} if version_id else {}

    def request() -> StoredObject:
        answer = connection.client.head_object(
            Bucket=connection.bucket, Key=key, ChecksumMode="ENABLED", **version
        )
        return _stored_object(connection, key, answer)

    try:
        return connection.call(f"asking for {key}", request, cancellation)
    except StoreMissing:
        return None


def check_bucket(connection: Connection) -> None:
    """Raises Misconfigured if the bucket itself is not there: a HEAD does not tell that from a missing object."""
    try:
        connection.call("asking for the bucket", lambda: connection.client.head_bucket(Bucket=connection.bucket))
    except StoreMissing as error:
        raise Misconfigured(
            f"{connection.service}: no bucket {connection.bucket!r}, or the key is not known there: "
            "correct store.url and store.access_key_id"
        ) from error


def read(
    connection: Connection,
    key: str,
    *,
    version_id: str | None = None,
    chunk_size: int = READ_BYTES,
    cancellation: Cancellation | None = None,
) -> Iterator[bytes]:
    """The object's bytes; a broken connection goes on where it broke, at the same version of the object."""
    cancellation = cancellation or Cancellation()
    stored = find(connection, key, version_id=version_id, cancellation=cancellation)
    if stored is None:
        check_bucket(connection)
        raise StoreMissing(f"{connection.service}: no object {key}")
    yield from read_range(connection, stored, 0, stored.size, cancellation, chunk_size=chunk_size)


def judge_by_reading(
    connection: Connection, stored: StoredObject, sha256: str, cancellation: Cancellation
) -> Proven | Differs:
    """Reads every byte of the object and compares its SHA-256 (hex)."""
    digest = hashlib.sha256()
    for chunk in read(connection, stored.key, version_id=stored.version_id, cancellation=cancellation):
        digest.update(chunk)
    found = digest.hexdigest()
    return Proven("read-back") if found == sha256 else Differs(f"read back, its SHA-256 is {found}, not {sha256}")


def remove(connection: Connection, key: str, version_id: str | None) -> None:
    """Removes one object, for good where its version is given."""
    version: Any = {"VersionId": version_id} if version_id else {}
    connection.call(
        f"removing {key}",
        lambda: connection.client.delete_object(Bucket=connection.bucket, Key=key, **version),
    )


def marker(connection: Connection) -> str | None:
    """What the store's marker says: it is in the metadata, which can be read in every storage class."""
    found = find(connection, connection.prefix + MARKER)
    if found is None:
        check_bucket(connection)
        return None
    return found.metadata.get(MARKER_METADATA, "")


def mark(connection: Connection, text: str) -> None:
    """Gives the store this marker."""
    body = f"{text}\n".encode("ascii")
    request = partial(
        connection.client.put_object,
        Bucket=connection.bucket,
        Key=connection.prefix + MARKER,
        Body=body,
        ContentMD5=base64_of(hashlib.md5(body, usedforsecurity=False).hexdigest()),
        Metadata=encode_metadata({MARKER_METADATA: text}),
    )
    connection.call("marking the store", request, sent_bytes=len(body))


def _stored_object(connection: Connection, key: str, answer: HeadObjectOutputTypeDef) -> StoredObject:
    return StoredObject(
        key=key,
        size=connection.given(answer, "ContentLength"),
        modified_at=connection.given(answer, "LastModified"),
        etag=answer.get("ETag", "").strip('"') or None,
        version_id=named_version(answer.get("VersionId")),
        storage_class=answer.get("StorageClass") or "STANDARD",
        checksum=_checksum(answer),
        restore=answer.get("Restore") or None,
        archive_status=answer.get("ArchiveStatus") or None,
        metadata=decode_metadata(answer.get("Metadata", {})),
    )


def _checksum(answer: HeadObjectOutputTypeDef) -> StoreChecksum | None:
    for algorithm in ALGORITHMS:
        if value := answer.get(f"Checksum{algorithm}"):
            composite = answer.get("ChecksumType") == "COMPOSITE" or "-" in str(value)
            return StoreChecksum(
                algorithm=algorithm, value=str(value), type="COMPOSITE" if composite else "FULL_OBJECT"
            )
    return None
