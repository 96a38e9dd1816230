"""The `[staging]` table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator

from dpn.setting_types import AbsolutePath, Section, Share

VOLUME_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")


class StagingSettings(Section):
    """Where bags lie between being fetched and being stored."""

    volumes: dict[str, AbsolutePath] = Field(default_factory=dict)
    """A node that stages nothing needs none."""
    floor_bytes: Annotated[int, Field(ge=0)] = 1_000_000_000
    peer_share: Share = 0.5
    abandon_after_seconds: PositiveFloat = 3600.0
    quarantine_days: PositiveFloat = 30.0
    quarantine_bytes: Annotated[int, Field(ge=0)] = 100_000_000_000

    @field_validator("volumes")
    @classmethod
    def _named(cls, volumes: dict[str, Path]) -> dict[str, Path]:
        if not volumes:
            raise ValueError('name at least one volume, e.g. main = "/srv/dpn/staging"')
        for name in volumes:
            if not VOLUME_NAME.match(name):
                raise ValueError(f"volume name {name!r}: 1 to 32 lower-case letters, digits, '-' or '_'")
        return volumes
