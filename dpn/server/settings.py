"""The `[server]` table."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from dpn.setting_types import AbsolutePath, Section


class ServerSettings(Section):
    """Our registry server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    max_body_bytes: PositiveInt = 1_000_000
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("give both of certificate_file and key_file, or neither")
        return self
