"""A range of one object, and of no other: what is read is pinned to the version that was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

from dpn.cancellation import Cancellation
from dpn.errors import StoreMismatch, StoreUnavailable
from dpn.s3.connection import RECEIVE_BYTES, Connection
from dpn.s3.errors import PreconditionFailed
from dpn.storage.errors import ObjectReplaced
from dpn.storage.stored_object import StoredObject


def read_range(
    connection: Connection,
    stored: StoredObject,
    start: int,
    size: int,
    cancellation: Cancellation,
    *,
    chunk_size: int = RECEIVE_BYTES,
) -> Iterator[bytes]:
    """The object's `size` bytes from `start` on. Where it breaks off it goes on, as long as that gets it further.

    Raises ObjectReplaced, StoreMissing, StoreCold, StoreUnavailable, StoreMismatch.
    """
    patience = connection.patience(size)
    position = 0
    while position < size:
        try:
            for data in _read_once(
                connection, stored, start + position, size - position, cancellation, chunk_size
            ):
                position += len(data)
                yield data
        except StoreUnavailable as error:
            cancellation.wait(patience.wait_seconds(position, error))
            cancellation.check()


def _read_once(
    connection: Connection,
    stored: StoredObject,
    start: int,
    size: int,
    cancellation: Cancellation,
    chunk_size: int,
) -> Iterator[bytes]:
    doing = f"reading {stored.key}"
    pinned: dict[str, Any] = {"VersionId": stored.version_id} if stored.version_id else {}
    if stored.etag:
        pinned["IfMatch"] = f'"{stored.etag}"'
    if (start, size) != (0, stored.size):
        pinned["Range"] = f"bytes={start}-{start + size - 1}"
    request = partial(connection.client.get_object, Bucket=connection.bucket, Key=stored.key, **pinned)
    try:
        answer = connection.call(doing, request, cancellation, attempts=1)
    except PreconditionFailed as error:
        raise _replaced(connection, stored) from error
    with closing(answer["Body"]):
        _refuse_another(connection, stored, answer, start, size)
        yield from connection.body(doing, answer, size, cancellation, chunk_size=chunk_size)


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
