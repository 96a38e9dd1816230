"""The `[node]` table, and what a peer's table says of its registry."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import PositiveFloat, SecretStr, ValidationInfo, field_validator, model_validator

from dpn.setting_types import (
    AbsolutePath,
    HttpUrl,
    NamespaceName,
    Section,
    is_loopback,
    needed,
    secret_of,
)


class NodeSettings(Section):
    """Who we are in the network."""

    namespace: NamespaceName
    name: str = ""
    api_root: HttpUrl | None = None
    storage_region: str = "default"
    storage_type: str = "default"

    def address(self) -> str:
        """Where other nodes reach our registry. Raises Misconfigured if the settings do not say."""
        return needed(
            self.api_root, "node.api_root", 'say where others reach this node, e.g. "https://dpn.example.org"'
        )


class RegistryAccess(Section):
    """Another node's registry, and who we are there."""

    allow_plain_http: bool = False
    api_root: HttpUrl
    token: SecretStr | None = None
    token_file: AbsolutePath | None = None
    authorization: Literal["token-parameter", "token"] = "token-parameter"
    ca_file: AbsolutePath | None = None
    connect_timeout_seconds: PositiveFloat = 10.0
    read_timeout_seconds: PositiveFloat = 30.0
    total_timeout_seconds: PositiveFloat = 120.0

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give exactly one of token and token_file")
        return self

    @field_validator("api_root")
    @classmethod
    def _token_not_in_the_open(cls, api_root: str, info: ValidationInfo) -> str:
        parts = urlsplit(api_root)
        allowed = info.data.get("allow_plain_http", True)  # a wrong value is told of by itself
        if parts.scheme == "http" and not (allowed or is_loopback(parts.hostname or "")):
            raise ValueError(
                "must be https://, or anybody on the way could read our token; in a closed network say "
                "allow_plain_http = true"
            )
        return api_root

    def secret(self) -> str:
        """The token that we show to this peer. Raises SettingsError."""
        return secret_of(self.token, self.token_file, "token_file")
