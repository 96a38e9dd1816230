"""A range of one stored object, and of no other."""

from __future__ import annotations

from collections.abc import Iterator

from dpn.cancellation import Cancellation
from dpn.s3 import ranges
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
    """As dpn.s3.ranges.read_range, but for ObjectReplaced where another object lies under the key."""
    try:
        yield from ranges.read_range(connection, stored, start, size, cancellation, chunk_size=chunk_size)
    except PreconditionFailed as error:
        raise ObjectReplaced(str(error)) from error
