"""Kinds of values that settings have. Errors say what a value must be and never repeat it: it may be secret."""

from __future__ import annotations

import ipaddress
import re
import stat
from pathlib import Path
from typing import Annotated, BinaryIO
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")

LARGEST_PORT = 65535
MAX_SECRET_BYTES = 64 * 1024


def _expanded(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path, beginning with /")
    return path


def _readable_file(path: Path) -> Path:
    with _open(path):
        return path


def _open(path: Path) -> BinaryIO:
    """Raises ValueError. Never waits, whatever the path names."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise ValueError(f"{path} is a pipe, not a file")
        return path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a file ({error.strerror})") from error


def _secret_file(path: Path) -> Path:
    read_secret(path)
    return path


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


def _namespace(value: str) -> str:
    if not NAMESPACE.match(value):
        raise ValueError("must be lower-case letters, digits, '-' or '_'")
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
ExistingFile = Annotated[AbsolutePath, AfterValidator(_readable_file)]
SecretFile = Annotated[AbsolutePath, AfterValidator(_secret_file)]
NamespaceName = Annotated[str, AfterValidator(_namespace)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Address = Annotated[str, AfterValidator(_address)]
