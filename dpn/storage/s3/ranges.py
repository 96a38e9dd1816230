"""A range of one object, and of no other: what is read is pinned to the version that was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError

from dpn.cancellation import Cancellation
from dpn.errors import StoreMismatch, StoreUnavailable
from dpn.storage.errors import ObjectReplaced
from dpn.storage.s3.connection import Connection
from dpn.storage.s3.refusals import AlreadyThere, translate
from dpn.storage.stored_object import StoredObject

RECEIVE_BYTES = 256 * 1024
"""How much is taken from the socket at a time: larger buffers come fresh from the kernel each, zeroed."""


def read_range(
    connection: Connection,
    stored: StoredObject,
    start: int,
    size: int,
    cancellation: Cancellation,
    *,
    chunk_size: int = RECEIVE_BYTES,
) -> Iterator[bytes]:
    """The object's `size` bytes from `start` on; at least one byte.

    Raises ObjectReplaced, StoreMissing, StoreCold, StoreUnavailable (it may break off anywhere), StoreMismatch.
    """
    doing = f"reading {stored.key}"
    pinned: dict[str, Any] = {"VersionId": stored.version_id} if stored.version_id else {}
    if stored.etag:
        pinned["IfMatch"] = f'"{stored.etag}"'
    if (start, size) != (0, stored.size):
        pinned["Range"] = f"bytes={start}-{start + size - 1}"
    try:
        answer = connection.call(
            doing,
            lambda: connection.client.get_object(Bucket=connection.bucket, Key=stored.key, **pinned),
            cancellation,
        )
    except AlreadyThere as error:
        raise _replaced(connection, stored) from error
    body = answer["Body"]
    try:
        _refuse_another(connection, stored, answer, start, size)
        come = 0
        for chunk in body.iter_chunks(chunk_size):
            cancellation.check()
            yield chunk
            come += len(chunk)
        if come != size:
            raise StoreUnavailable(connection.service, f"{doing}: it broke off {size - come} bytes too early")
    except BotoCoreError as error:
        raise translate(error, connection.service, doing) from error
    finally:
        body.close()


def _refuse_another(connection: Connection, stored: StoredObject, answer: Any, start: int, size: int) -> None:
    """Not every store heeds If-Match, or Range; what it says of its answer is there all the same."""
    etag = str(answer.get("ETag", "")).strip('"')
    if stored.etag and etag and etag != stored.etag:
        raise _replaced(connection, stored)
    offered = connection.given(answer, "ContentLength")
    said = answer.get("ContentRange")
    if offered != size or (said and said != f"bytes {start}-{start + size - 1}/{stored.size}"):
        raise StoreMismatch(
            f"{connection.service}: {stored.key}: of its {stored.size} bytes {size} were asked for from byte "
            f"{start} on; it offers {offered} ({str(said)[:100]!a})"
        )


def _replaced(connection: Connection, stored: StoredObject) -> ObjectReplaced:
    return ObjectReplaced(f"{connection.service}: {stored.key} was replaced while it was read")
