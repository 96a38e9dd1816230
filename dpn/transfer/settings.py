"""The `[transfer]` table, and what a peer's table says of its rsync."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dpn.setting_types import AbsolutePath, Section


class TransferSettings(Section):
    """How bags are fetched from other nodes."""

    rsync: str = "rsync"
    ssh: str = "ssh"
    identity_file: AbsolutePath | None = None
    known_hosts_file: AbsolutePath | None = None
    connect_timeout_seconds: PositiveInt = 15
    io_timeout_seconds: PositiveInt = 300
    stall_timeout_seconds: PositiveFloat = 900.0
    bandwidth_limit_kib: Annotated[int, Field(ge=0)] = 0
    minimum_rate_kib: Annotated[int, Field(ge=0)] = 64
    size_mismatch: Literal["reject", "warn"] = "reject"
    size_mismatch_attempts: PositiveInt = 3

    @model_validator(mode="after")
    def _rates_agree(self) -> Self:
        if 0 < self.bandwidth_limit_kib <= self.minimum_rate_kib:
            raise ValueError("minimum_rate_kib must be less than bandwidth_limit_kib: no fetch could go on")
        return self


class RsyncSource(Section):
    """Where a peer's bags may be fetched from: links that point elsewhere are refused."""

    mode: Literal["ssh", "daemon"] = "ssh"
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity_file: AbsolutePath | None = None
    password_file: AbsolutePath | None = None
