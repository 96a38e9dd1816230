"""The long-term store's connection, from its settings."""

from __future__ import annotations

from collections.abc import Callable

from dpn.s3.connection import Connection, bucket_and_prefix
from dpn.s3.limits import AnswerLimits, Retries
from dpn.s3.refusals import Refusals
from dpn.storage.settings import StoreSettings

PERMISSIONS = (
    "s3:PutObject, s3:GetObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:RestoreObject, and "
    "s3:ListBucket on the bucket (else a missing object looks forbidden)"
)


def connect(
    settings: StoreSettings, monotonic: Callable[[], float], retries: Retries | None, limits: AnswerLimits | None
) -> Connection:
    """Asks nothing yet. Raises Misconfigured."""
    bucket, prefix = bucket_and_prefix(settings.url)
    return Connection(
        settings,
        bucket,
        prefix,
        Refusals(f"store:{settings.name}", "store", "store.url", PERMISSIONS),
        max_connections=max(10, 4 * settings.upload_threads, 4 * settings.retrieve_threads),
        retries=retries,
        limits=limits,
        monotonic=monotonic,
    )
