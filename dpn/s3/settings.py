"""What every table of an S3 server has."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveFloat, SecretStr, model_validator

from dpn.setting_types import AbsolutePath, HttpUrl, Section, secret_of


class S3Access(Section):
    """A server that speaks S3, and who we are there."""

    endpoint_url: HttpUrl | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    secret_access_key_file: AbsolutePath | None = None
    connect_timeout_seconds: PositiveFloat = 10.0
    read_timeout_seconds: PositiveFloat = 60.0

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        given = [self.secret_access_key is not None, self.secret_access_key_file is not None]
        if all(given):
            raise ValueError("give only one of secret_access_key and secret_access_key_file")
        if any(given) != (self.access_key_id is not None):
            raise ValueError("access_key_id and its secret go together: give both or neither")
        return self

    def secret(self) -> str | None:
        """The secret access key, or none: then the usual AWS sources are asked (role, environment, profile)."""
        if self.secret_access_key is None and self.secret_access_key_file is None:
            return None
        return secret_of(self.secret_access_key, self.secret_access_key_file, "secret_access_key_file")
