"""Ends multipart uploads that no item owns any more: their parts are billed until someone does."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from datetime import datetime
from functools import partial
from itertools import islice

from dpn.s3.connection import Connection
from dpn.s3.errors import UploadLost
from dpn.s3.pages import list_uploads
from dpn.storage.s3.probe import PROBE_PREFIX

MOST_LOOKED_AT = 100_000
"""Uploads in one go: a store may list them without end."""
_OURS = re.compile(
    rf"([0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}\.tar|{re.escape(PROBE_PREFIX)}[0-9a-f]+)\Z"
)
_log = logging.getLogger(__name__)


def abort_abandoned_uploads(connection: Connection, *, begun_before: datetime, keep: Collection[str]) -> int:
    """Aborts uploads of bags under our prefix that began before then, but for the upload ids in `keep`.

    Uploads under other names are someone else's and stay. Returns how many were aborted.
    """
    aborted = 0
    for upload in islice(list_uploads(connection), MOST_LOOKED_AT):
        if _OURS.match(upload.key) and upload.begun_at < begun_before and upload.upload_id not in keep:
            _log.info("aborting the abandoned upload of %s, %s, begun %s", *upload)
            aborted += _abort(connection, connection.prefix + upload.key, upload.upload_id)
    return aborted


def _abort(connection: Connection, key: str, upload_id: str) -> int:
    abort = connection.client.abort_multipart_upload
    request = partial(abort, Bucket=connection.bucket, Key=key, UploadId=upload_id)
    try:
        connection.call(f"aborting the upload of {key}", request)
    except UploadLost:
        return 0
    return 1
