"""The `[ingest.s3]` table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpn.s3.settings import S3Access


class DepositS3Settings(S3Access):
    """Where deposits are fetched from that lie under an `s3://` prefix."""

    fetch_threads: Annotated[int, Field(ge=1, le=64)] = 8
    etags_are_checksums: bool = True
