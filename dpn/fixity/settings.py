"""The `[fixity]` table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from dpn.setting_types import Section
from dpn.storage.settings import Tier


class FixitySettings(Section):
    """How our copies are proven again and again."""

    every_days: PositiveFloat = 730.0
    max_checks_per_run: PositiveInt = 20
    max_bytes_per_day: Annotated[int, Field(ge=0)] = 0
    max_retrieval_cost_per_month: Annotated[float, Field(ge=0)] = 0.0
    retrieval_cost_per_gb: Annotated[float, Field(ge=0)] = 0.0025
    retrieval_tier: Tier = "Bulk"
    max_cold_bytes_per_month: Annotated[int, Field(ge=0)] = 0
    keep_restored_days: PositiveInt = 3
    look_again_seconds: PositiveFloat = 7200.0
    download_retry_seconds: PositiveFloat = 180.0
