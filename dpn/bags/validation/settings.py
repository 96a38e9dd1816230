"""The `[validation]` table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpn.setting_types import Section


class ValidationSettings(Section):
    """How bags are judged."""

    profile: str = "dpn"
    threads: Annotated[int, Field(ge=0)] = 0
