"""What a server says of an object, as every root says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dpn.errors import StoreMismatch
from dpn.objects.root import ObjectInfo
from dpn.s3.checksums import claimed
from dpn.s3.connection import MAX_BYTES, Connection, named_version
from dpn.s3.errors import PreconditionFailed

MODIFIED = "mtime"
"""The name in the metadata under which rclone, too, keeps when a content was made: seconds since 1970."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"(-?[0-9]{1,11})(?:\.([0-9]{1,9}))?\Z")
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})\Z")


def object_info(connection: Connection, key: str, answer: Mapping[str, Any], size: int) -> ObjectInfo:
    """Of the whole object of `size` bytes, from an answer to HEAD or GET. Raises StoreUnavailable."""
    etag = etag_of(answer)
    return ObjectInfo(
        key,
        size,
        _made_at(answer) or connection.given(answer, "LastModified"),
        etag,
        named_version(answer.get("VersionId")),
        claimed(answer, etag or "", etags_are_checksums=True),
    )


def etag_of(answer: Mapping[str, Any]) -> str | None:
    """Without quotes; None where the server says none."""
    return str(answer.get("ETag", "")).strip('"') or None


def whole_size(connection: Connection, key: str, answer: Mapping[str, Any], start: int, size: int | None) -> int:
    """The size of the object of which an answer brings `size` bytes from `start` on, or all; not every server
    heeds a range. Raises PreconditionFailed (the object ends earlier), StoreMismatch, StoreUnavailable."""
    offered: int = connection.given(answer, "ContentLength")
    if size is None and not start:
        return offered
    said = _RANGE.match(str(answer.get("ContentRange", "")))
    if said is not None:
        first, last, whole = int(said[1]), int(said[2]), int(said[3])
        end = whole if size is None else start + size
        if first == start and last + 1 == whole < end:
            raise PreconditionFailed(f"{connection.service}: {key} ends at byte {whole}")
        if (first, last + 1, offered) == (start, end, end - start) and end <= whole <= MAX_BYTES:
            return whole
    raise StoreMismatch(f"{connection.service}: {key}: it answers with another range than asked for")


def spelled(modified_at: datetime) -> dict[str, str]:
    """The metadata that says when a content was made."""
    microseconds = (modified_at - EPOCH) // timedelta(microseconds=1)
    return {MODIFIED: f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}"}


def _made_at(answer: Mapping[str, Any]) -> datetime | None:
    """As whoever wrote the object says: a claim, of use only for telling what may be the same."""
    said = _SECONDS.match(str((answer.get("Metadata") or {}).get(MODIFIED, "")))
    if said is None:
        return None
    try:
        return EPOCH + timedelta(seconds=int(said[1]), microseconds=int((said[2] or "0").ljust(9, "0")[:6]))
    except OverflowError:
        return None
