"""Which root the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from dpn.errors import Misconfigured
from dpn.objects.keys import KeyRefused, check_prefix
from dpn.objects.root import Root
from dpn.objects.settings import RootSettings

PERMISSIONS = (
    "s3:ListBucket and s3:GetObject to read; s3:PutObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts "
    "and s3:DeleteObject to write"
)


def open_root(name: str, settings: RootSettings, *, max_connections: int = 16) -> Root:
    """The root under `roots.NAME`, for as many threads as `max_connections` at once; nothing is asked of it yet.

    Whether somebody may read or write there is for whoever asks to find out from the settings. Raises
    Misconfigured, also for what only rclone can reach.
    """
    if settings.url is None:
        raise Misconfigured(
            f"roots.{name} is a remote of rclone, which only rclone can reach: use an engine of rclone for it, or "
            "give it a url"
        )
    prefix = _prefix(name, settings.prefix)
    if settings.url.startswith("file:"):
        from dpn.objects.folder.root import FolderRoot

        return FolderRoot(name, Path(unquote(urlsplit(settings.url).path)) / prefix)
    # Only now: botocore costs a process that needs no S3 some 25 MB and 0.2 s of processor.
    from dpn.objects.s3.root import S3Root
    from dpn.s3.connection import Connection, bucket_and_prefix
    from dpn.s3.refusals import Refusals

    bucket, before = bucket_and_prefix(settings.url)
    refusals = Refusals(f"root:{name}", f"roots.{name}", f"roots.{name}.url", PERMISSIONS)
    below = f"{before}{prefix}/" if prefix else before
    return S3Root(name, Connection(settings, bucket, below, refusals, max_connections=max_connections))


def _prefix(name: str, prefix: str) -> str:
    try:
        return check_prefix(prefix.removesuffix("/"))
    except KeyRefused as error:
        raise Misconfigured(f"roots.{name}.prefix: {error}") from error
