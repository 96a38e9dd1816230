"""The long-term store's connection, from its settings."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from dpn.s3.connection import Connection
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


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """`s3://bucket/some/where` → (`bucket`, `some/where/`); the prefix is empty or ends in a slash."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""
