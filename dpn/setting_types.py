"""What every table of settings is made of. Errors say what a value must be and never repeat it: it may be secret.

A table is a `Section` in the `settings` module of the folder that it configures; `dpn.settings` puts them all
together.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from dpn.errors import Misconfigured
from dpn.identifiers import NAMESPACE
from dpn.text import NOT_A_LINE, is_line

LARGEST_PORT = 65535
MAX_SECRET_BYTES = 64 * 1024
NAME_ANOTHER = "put it there for the user that runs this, or name another"

T = TypeVar("T")


class SettingsError(Misconfigured):
    """The settings cannot be used; the text names file, key and remedy, one line a problem."""


class Section(BaseModel):
    """Base of every table: unknown keys are refused, and no error repeats a value (it may be secret)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _not_a_truth_value(cls, value: object, info: ValidationInfo) -> object:
        """Where none is meant, pydantic would take `true` for the number 1."""
        meant = info.field_name is not None and cls.model_fields[info.field_name].annotation is bool
        if isinstance(value, bool) and not meant:
            raise ValueError("must not be true or false")
        return value


def _expanded(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path, beginning with /")
    return path


def _open(path: Path) -> BinaryIO:
    """Raises ValueError. Never waits, whatever the path names."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise ValueError(f"{path} is a pipe, not a file")
        return path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a file ({error.strerror})") from error


def read_secret(path: Path) -> str:
    """The text in a file, without the line end. Raises ValueError, which names the file and never quotes it."""
    with _open(path) as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8") from error
    if not secret or len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"{path} is {'too large for a secret' if secret else 'empty'}")
    return secret


def secret_of(value: SecretStr | None, file: Path | None, key: str) -> str:
    """The secret that is given in one of these two ways, the file under `key`. Raises SettingsError.

    A file is read when its secret is used: one that was replaced (a rotated token) counts from then on, and one
    that is missing stops only what needs it.
    """
    if value is not None:
        return value.get_secret_value()
    assert file is not None  # noqa: S101  (the sections' validators hold this)
    try:
        return read_secret(file)
    except ValueError as error:
        raise SettingsError(f"{key}: {error}: {NAME_ANOTHER}") from error


def require_file(path: Path, key: str) -> Path:
    """The path that stands under `key`, if it can be read as a file at this moment. Raises SettingsError."""
    try:
        with _open(path):
            return path
    except ValueError as error:
        raise SettingsError(f"{key}: {error}: {NAME_ANOTHER}") from error


def _namespace(value: str) -> str:
    if not NAMESPACE.match(value):
        raise ValueError("must be lower-case letters, digits, '-' or '_'")
    return value


def _line(value: str) -> str:
    if not is_line(value):
        raise ValueError(f"must be one line: it stands in bags, and has {NOT_A_LINE}")
    return value


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be an http:// or https:// address with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must be an address alone: no user name, password or query")
    if port is not None:
        _port(str(port))
    return value.rstrip("/")


def _store_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        return url
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        return url
    raise ValueError("must be file:///absolute/folder or s3://bucket[/prefix]")


def needed(value: T | None, key: str, remedy: str) -> T:
    """What stands under `key`, asked for by what cannot do without. Raises Misconfigured with the remedy."""
    if value is None:
        raise Misconfigured(f"{key} is missing in the settings: {remedy}")
    return value


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host, a name or an address, stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"[^\s:/@]+", host):
        raise ValueError("must be host:port, e.g. 127.0.0.1:4151")
    _port(port)
    return value


def _port(text: str) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= LARGEST_PORT:
        raise ValueError(f"must have a port from 1 to {LARGEST_PORT}")


AbsolutePath = Annotated[Path, BeforeValidator(_expanded), AfterValidator(_absolute)]
TagValue = Annotated[str, AfterValidator(_line)]
NamespaceName = Annotated[str, AfterValidator(_namespace)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
Address = Annotated[str, AfterValidator(_address)]
Share = Annotated[float, Field(gt=0, le=1)]
