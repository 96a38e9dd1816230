"""A range of one object, and of no other: what is read is pinned to the version that was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any, Protocol

from dpn.cancellation import Cancellation
from dpn.errors import StoreMismatch, StoreUnavailable
from dpn.s3.connection import RECEIVE_BYTES, Connection
from dpn.s3.errors import PreconditionFailed


class Pinned(Protocol):
    """An object as it was looked at."""

    @property
    def key(self) -> str:
        """The full one, within the bucket."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def etag(self) -> str | None:
        """Without quotes; None where the server says none."""
        ...

    @property
    def version_id(self) -> str | None:
        """None where the store keeps no versions."""
        ...


def read_range(
    connection: Connection,
    pinned: Pinned,
    start: int,
    size: int,
    cancellation: Cancellation,
    *,
    chunk_size: int = RECEIVE_BYTES,
) -> Iterator[bytes]:
    """The object's `size` bytes from `start` on. Where it breaks off it goes on, as long as that gets it further.

    Raises PreconditionFailed, StoreMissing, StoreCold, StoreUnavailable, StoreMismatch.
    """
    patience = connection.patience(size)
    position = 0
    while position < size:
        try:
            for data in _read_once(
                connection, pinned, start + position, size - position, cancellation, chunk_size
            ):
                position += len(data)
                yield data
        except StoreUnavailable as error:
            cancellation.wait(patience.wait_seconds(position, error))
            cancellation.check()


def _read_once(
    connection: Connection,
    pinned: Pinned,
    start: int,
    size: int,
    cancellation: Cancellation,
    chunk_size: int,
) -> Iterator[bytes]:
    doing = f"reading {pinned.key}"
    pin: dict[str, Any] = {"VersionId": pinned.version_id} if pinned.version_id else {}
    if pinned.etag:
        pin["IfMatch"] = f'"{pinned.etag}"'
    if (start, size) != (0, pinned.size):
        pin["Range"] = f"bytes={start}-{start + size - 1}"
    request = partial(connection.client.get_object, Bucket=connection.bucket, Key=pinned.key, **pin)
    try:
        answer = connection.call(doing, request, cancellation, attempts=1)
    except PreconditionFailed as error:
        raise _replaced(connection, pinned) from error
    with closing(answer["Body"]):
        _refuse_another(connection, pinned, answer, start, size)
        yield from connection.body(doing, answer, size, cancellation, chunk_size=chunk_size)


def _refuse_another(connection: Connection, pinned: Pinned, answer: Any, start: int, size: int) -> None:
    """Not every store heeds If-Match, or Range; what it says of its answer is there all the same."""
    etag = str(answer.get("ETag", "")).strip('"')
    if pinned.etag and etag and etag != pinned.etag:
        raise _replaced(connection, pinned)
    offered = connection.given(answer, "ContentLength")
    said = answer.get("ContentRange")
    if offered != size or (said and said != f"bytes {start}-{start + size - 1}/{pinned.size}"):
        raise StoreMismatch(
            f"{connection.service}: {pinned.key}: of its {pinned.size} bytes {size} were asked for from byte "
            f"{start} on; it offers {offered} ({str(said)[:100]!a})"
        )


def _replaced(connection: Connection, pinned: Pinned) -> PreconditionFailed:
    return PreconditionFailed(f"{connection.service}: {pinned.key} was replaced while it was read")
