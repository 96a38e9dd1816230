"""The `[log]` table."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dpn.setting_types import AbsolutePath, Section


class LogSettings(Section):
    """Logs: JSON lines on stderr, and in a file a process where a folder is given."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    directory: AbsolutePath | None = None
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
