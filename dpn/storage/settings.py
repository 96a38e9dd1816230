"""The `[store]` table."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dpn.s3.settings import S3Access
from dpn.setting_types import NamespaceName, StoreUrl

Tier: TypeAlias = Literal["Bulk", "Standard", "Expedited"]
"""How fast, and at what price, cold storage is read: up to two days, hours, minutes."""

COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects cannot be read without a restore that takes hours."""


class StoreSettings(S3Access):
    """The long-term store: `file:///folder` or `s3://bucket/prefix`."""

    name: NamespaceName = "main"
    url: StoreUrl
    storage_class: Literal[
        "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE"
    ] = "STANDARD"
    trusted_checksums: bool = True
    part_size_bytes: Annotated[int, Field(ge=5 * 1024 * 1024, le=5 * 1024**3)] = 64 * 1024 * 1024
    upload_threads: PositiveInt = 4
    retrieve_threads: PositiveInt = 4
    abandoned_upload_days: PositiveFloat = 7.0

    @model_validator(mode="after")
    def _provable(self) -> Self:
        if not self.trusted_checksums and self.storage_class in COLD_CLASSES:
            raise ValueError(
                f"{self.storage_class} cannot be read back: without trusted_checksums no copy there could ever be "
                "proven. Choose another storage_class"
            )
        return self
