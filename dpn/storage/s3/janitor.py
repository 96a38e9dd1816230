"""Ends multipart uploads that no item owns any more: their parts are billed until someone does."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from dpn.storage.errors import UploadLost
from dpn.storage.s3.connection import Connection
from dpn.storage.s3.probe import PROBE_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import MultipartUploadTypeDef

_OURS = re.compile(
    rf"([0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}\.tar|{re.escape(PROBE_PREFIX)}[0-9a-f]+)\Z"
)
_log = logging.getLogger(__name__)


def abort_abandoned_uploads(connection: Connection, *, begun_before: datetime, keep: Collection[str]) -> int:
    """Aborts uploads of bags under our prefix that began before then, but for the upload ids in `keep`.

    Uploads under other names are someone else's and stay. Answers how many were aborted.
    """
    aborted = 0
    for upload in list(_uploads(connection)):
        key, upload_id = upload["Key"], upload["UploadId"]
        if not _OURS.match(key.removeprefix(connection.prefix)):
            continue
        if upload["Initiated"] < begun_before and upload_id not in keep:
            _log.info("aborting the abandoned upload %s of %s, begun %s", upload_id, key, upload["Initiated"])
            aborted += _abort(connection, key, upload_id)
    return aborted


def _uploads(connection: Connection) -> Iterator[MultipartUploadTypeDef]:
    """Every upload under our prefix, page by page."""
    key_marker, id_marker = "", ""
    while True:
        page = connection.call(
            "listing uploads",
            lambda key_marker=key_marker, id_marker=id_marker: connection.client.list_multipart_uploads(  # type: ignore[misc]
                Bucket=connection.bucket,
                Prefix=connection.prefix,
                **({"KeyMarker": key_marker, "UploadIdMarker": id_marker} if key_marker else {}),
            ),
        )
        yield from page.get("Uploads", [])
        following = page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", "")
        if not page.get("IsTruncated") or following == (key_marker, id_marker):
            return
        key_marker, id_marker = following


def _abort(connection: Connection, key: str, upload_id: str) -> int:
    try:
        connection.call(
            f"aborting the upload of {key}",
            lambda: connection.client.abort_multipart_upload(
                Bucket=connection.bucket, Key=key, UploadId=upload_id
            ),
        )
    except UploadLost:
        return 0
    return 1
