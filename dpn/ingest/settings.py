"""The `[ingest]` table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from dpn.identifiers import UUID
from dpn.outbound.settings import OutboundSettings
from dpn.packaging.settings import DepositS3Settings
from dpn.setting_types import AbsolutePath, NamespaceName, Section, TagValue


class IngestSettings(Section):
    """How our own bags come into the network."""

    replicate_to_count: Annotated[int, Field(ge=0, le=100)] = 2
    placement_seed: str = ""
    withhold_digests: bool = False
    exclude: dict[str, tuple[NamespaceName, ...]] = Field(default_factory=dict)
    outbound: dict[str, OutboundSettings] = Field(default_factory=dict)
    source_folders: tuple[AbsolutePath, ...] = ()
    node_address: TagValue = ""
    contact_name: TagValue = ""
    contact_email: TagValue = ""
    s3: DepositS3Settings = DepositS3Settings()

    @field_validator("exclude")
    @classmethod
    def _by_member(cls, exclude: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for member in exclude:
            if not UUID.match(member):
                raise ValueError(f"{member!r} is not the member_id of a member: a UUID in lower case")
        return exclude

    @property
    def copies(self) -> int:
        """How many copies of a bag there are to be, ours included."""
        return self.replicate_to_count + 1
