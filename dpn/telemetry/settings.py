"""The `[log]` table."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dpn.setting_types import AbsolutePath, Section


class LogSettings(Section):
    """Logs: JSON lines on stderr, in a file a process where a folder is given, or both."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    directory: AbsolutePath | None = None
    stderr: bool = True
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.stderr and self.directory is None:
            raise ValueError("stderr = false needs a directory, or the log would go nowhere")
        return self
