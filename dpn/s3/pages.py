"""What a server lists, page by page: never in memory, never for ever.

A page must bring something new. One that goes on where it began, or does not say where it goes on; page after page
that is empty, or gets no further than those before: such a listing would never end, and is broken off with
StoreUnavailable. A listing of ever new names is for the caller to limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from dpn.cancellation import Cancellation
from dpn.s3.connection import Connection

ROWS_PER_PAGE = 1000
"""As many as S3 gives."""


class ListedObject(NamedTuple):
    """An object as a listing shows it."""

    key: str
    """From the connection's prefix on."""
    size: int
    etag: str
    modified_at: datetime | None = None


class ListedUpload(NamedTuple):
    """A multipart upload under way."""

    key: str
    """From the connection's prefix on."""
    upload_id: str
    begun_at: datetime


class ListedPart(NamedTuple):
    """A part that an upload has."""

    number: int
    size: int
    etag: str
    sha256: str | None
    """In base64, if the store keeps it."""


def list_objects(
    connection: Connection,
    cancellation: Cancellation | None = None,
    *,
    below: str = "",
    after: str | None = None,
) -> Iterator[ListedObject]:
    """Every object under the connection's prefix, in the server's order; of these only keys that begin with
    `below`, and that come behind `after`. Raises as Connection.call."""
    bucket, prefix = connection.bucket, connection.prefix + below
    begin: Any = {"StartAfter": connection.prefix + after} if after else {}
    request = partial(
        connection.client.list_objects_v2, Bucket=bucket, Prefix=prefix, MaxKeys=ROWS_PER_PAGE, **begin
    )
    markers = {"NextContinuationToken": "ContinuationToken"}
    doing = f"listing s3://{bucket}/{prefix}"
    for page in _pages(connection, doing, request, "Contents", "Key", markers, cancellation):
        for row in page:
            key = _key(connection, row)
            size, etag = connection.given(row, "Size"), connection.given(row, "ETag")
            yield ListedObject(key, size, etag, row.get("LastModified"))


def list_uploads(connection: Connection, cancellation: Cancellation | None = None) -> Iterator[ListedUpload]:
    """Multipart uploads under the connection's prefix, by key. Raises as Connection.call.

    A caller may abort those that it was given. Of one key's uploads, what does not fit on its page is left out: it
    is listed once those before are gone. To go on behind a single upload, servers want it to be there still, and
    versitygw cannot do so at all.
    """
    bucket, prefix = connection.bucket, connection.prefix
    list_page = connection.client.list_multipart_uploads
    request = partial(list_page, Bucket=bucket, Prefix=prefix, MaxUploads=ROWS_PER_PAGE)
    markers = {"NextKeyMarker": "KeyMarker"}
    for page in _pages(connection, "listing uploads", request, "Uploads", "Key", markers, cancellation):
        for row in page:
            upload_id, begun_at = connection.given(row, "UploadId"), connection.given(row, "Initiated")
            yield ListedUpload(_key(connection, row), upload_id, begun_at)


def list_parts(
    connection: Connection, key: str, upload_id: str, cancellation: Cancellation | None = None
) -> Iterator[ListedPart]:
    """What the store has of an upload to the full `key`, by number. Raises as Connection.call; UploadLost."""
    upload: Any = {"Bucket": connection.bucket, "Key": key, "UploadId": upload_id}
    request = partial(connection.client.list_parts, MaxParts=ROWS_PER_PAGE, **upload)
    markers = {"NextPartNumberMarker": "PartNumberMarker"}
    doing = f"listing the parts of {key}"
    for page in _pages(connection, doing, request, "Parts", "PartNumber", markers, cancellation):
        for row in page:
            number, size = connection.given(row, "PartNumber"), connection.given(row, "Size")
            yield ListedPart(number, size, connection.given(row, "ETag"), row.get("ChecksumSHA256"))


def _pages(
    connection: Connection,
    doing: str,
    request: Callable[..., Mapping[str, Any]],
    rows: str,
    ordered_by: str,
    markers: Mapping[str, str],
    cancellation: Cancellation | None,
) -> Iterator[list[Mapping[str, Any]]]:
    """The rows of each page. `markers`: what a page, and then the next request, calls the place where it ends."""

    def endless(why: str) -> Exception:
        return connection.nonsense(f"{doing}: {why}: it would never end")

    def ask() -> Mapping[str, Any]:
        page = request(**marker)
        connection.given(page, "IsTruncated")  # what says nothing of it is no listing, and no empty one either
        return page

    marker: dict[str, Any] = {}
    furthest: Any = None
    without_news = 0
    while True:
        page = connection.call(doing, ask, cancellation)
        found = page.get(rows, [])
        yield found
        if not page["IsTruncated"]:
            return
        earlier, marker = marker, {asked: page[told] for told, asked in markers.items() if page.get(told)}
        if not marker or marker == earlier:
            raise endless("it goes on where it was before" if marker else "it says that it goes on, and not where")
        last = connection.given(found[-1], ordered_by) if found else None
        if last is not None and (furthest is None or last > furthest):
            furthest, without_news = last, 0
        else:
            without_news += 1
        if without_news > connection.limits.pages_without_news:
            raise endless(f"{without_news} pages in a row bring nothing new")


def _key(connection: Connection, row: Mapping[str, Any]) -> str:
    key = str(connection.given(row, "Key"))
    if not key.startswith(connection.prefix):
        raise connection.nonsense(f"asked for what begins with {connection.prefix!r}, it lists {key[:200]!a}")
    return key.removeprefix(connection.prefix)
