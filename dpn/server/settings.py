"""The `[server]` table."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from dpn.setting_types import AbsolutePath, Section


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError("must be addresses or networks, e.g. 192.0.2.7 or 2001:db8::/64") from error
    return text


class ServerSettings(Section):
    """Our registry server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    max_body_bytes: PositiveInt = 1_000_000
    max_connections: PositiveInt = 500
    max_connections_per_address: PositiveInt = 50
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ("127.0.0.1", "::1")
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("give both of certificate_file and key_file, or neither")
        return self
