"""The `[server]` table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from dpn.setting_types import Section


class ServerSettings(Section):
    """Our registry server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    max_body_bytes: PositiveInt = 1_000_000
