"""The `[roots.…]` tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from dpn.s3.settings import S3Access
from dpn.setting_types import AbsolutePath, StoreUrl, secret_of

RCLONE_SECRETS: Mapping[str, frozenset[str]] = {
    "alias": frozenset(),
    "local": frozenset(),
    "s3": frozenset({"secret_access_key", "session_token"}),
    "sftp": frozenset({"pass", "key_file_pass"}),
    "webdav": frozenset({"pass", "bearer_token"}),
}
"""By type of remote, the options that nobody may see. Each may be given as NAME_file, too."""
RCLONE_OPTIONS: Mapping[str, frozenset[str]] = {
    "alias": frozenset({"remote"}),
    "local": frozenset({"root"}),
    "s3": frozenset(
        {
            "root",
            "provider",
            "endpoint",
            "region",
            "access_key_id",
            "env_auth",
            "force_path_style",
            "storage_class",
        }
    ),
    "sftp": frozenset({"root", "host", "user", "port", "key_file", "known_hosts_file", "disable_hashcheck"}),
    "webdav": frozenset({"root", "url", "vendor", "user"}),
}
"""The others that we let through: none that starts a program, names a proxy or writes elsewhere. `root` is ours:
the folder, or the bucket with what is before the keys."""
RCLONE_NEEDED: Mapping[str, str] = {
    "alias": "remote",
    "local": "root",
    "s3": "root",
    "sftp": "host",
    "webdav": "url",
}

RATE = re.compile(r"off|[0-9]{1,9}(?:\.[0-9]{1,3})?[BKMGT]?", re.IGNORECASE)
SLOT = re.compile(r"(?:(Mon|Tue|Wed|Thu|Fri|Sat|Sun)-)?([01][0-9]|2[0-3]):([0-5][0-9]),(\S+)", re.IGNORECASE)
_ALLOWED = re.compile(r"\*|(?:door|token):[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@ -]{0,99}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

RcloneValue = str | int | bool | SecretStr


def _remote(given: object) -> dict[str, RcloneValue]:
    if not isinstance(given, dict):
        raise ValueError('must be a table, e.g. { type = "sftp", host = "sftp.example.org" }')
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in RCLONE_OPTIONS:
        raise ValueError(f"type must be one of {', '.join(RCLONE_OPTIONS)}")
    secrets = RCLONE_SECRETS[kind]
    known = {"type", *RCLONE_OPTIONS[kind], *secrets, *(f"{name}_file" for name in secrets)}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{key[:50]!a} is no option of a {kind} remote here: use {', '.join(sorted(known))}")
        if not isinstance(value, str | int | SecretStr) or value == "":
            raise ValueError(f"{key} must be text, a whole number, true or false")
    _check_remote(kind, given)
    return {key: SecretStr(value) if key in secrets else value for key, value in given.items()}


def _check_remote(kind: str, given: dict[str, RcloneValue]) -> None:
    if (needed := RCLONE_NEEDED[kind]) not in given:
        raise ValueError(f"{needed} is missing: a {kind} remote needs it")
    for name in RCLONE_SECRETS[kind]:
        if name in given and f"{name}_file" in given:
            raise ValueError(f"give only one of {name} and {name}_file")
    paths = [key for key in given if key.endswith("_file")]
    paths += {"alias": ["remote"], "local": ["root"]}.get(kind, [])
    for key in paths:
        if not str(given[key]).startswith("/"):
            raise ValueError(f"{key} must be an absolute path, beginning with /")


def _bandwidth(value: str) -> str:
    slots = value.split()
    rates = [value] if len(slots) == 1 and "," not in value else [_rate_of(slot) for slot in slots]
    if not rates or any(RATE.fullmatch(rate) is None for rate in rates):
        raise ValueError(
            'must be a rate a second as rclone writes it, e.g. "10M" or "off", or a timetable of such, '
            'e.g. "08:00,512K 19:00,10M" or "Mon-08:00,1M Sat-00:00,off"'
        )
    return value


def _rate_of(slot: str) -> str:
    found = SLOT.fullmatch(slot)
    return found[4] if found else ""


def _users(values: tuple[str, ...]) -> tuple[str, ...]:
    if any(_ALLOWED.fullmatch(value) is None for value in values):
        raise ValueError('must be a list of "door:NAME", "token:NAME" and "*"')
    return values


def _remote_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError("must be the name of a remote alone, without the colon and what is behind it")
    return value


def _hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    if any(_HOST.fullmatch(value) is None for value in values):
        raise ValueError("must be a list of host names")
    return values


class RootSettings(S3Access):
    """Where objects lie, and who may move them there and from there."""

    url: StoreUrl | None = None
    rclone: Annotated[dict[str, RcloneValue], BeforeValidator(_remote)] | None = None
    rclone_remote: Annotated[str, AfterValidator(_remote_name)] | None = None
    rclone_config: AbsolutePath | None = None
    prefix: str = ""
    access: Literal["read", "write", "read-write"] = "read-write"
    allow: Annotated[tuple[str, ...], AfterValidator(_users)] = ()
    engine: Literal["auto", "rclone", "rclone-cli", "native"] = "auto"
    bandwidth: Annotated[str, AfterValidator(_bandwidth)] | None = None
    workers: Annotated[tuple[str, ...], AfterValidator(_hosts)] = ()

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("url", "rclone", "rclone_remote") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of url, rclone and rclone_remote ({' and '.join(given) or 'none'} is given), "
                'e.g. url = "file:///srv/archive"'
            )
        if self.rclone_config is not None and self.rclone_remote is None:
            raise ValueError("rclone_config goes with rclone_remote: add that, or remove rclone_config")
        if self.engine == "native" and self.url is None:
            raise ValueError('engine = "native" serves a url only: write "auto", or give the root a url')
        of_s3 = sorted(self.model_fields_set & S3Access.model_fields.keys())
        if of_s3 and not (self.url or "").startswith("s3:"):
            raise ValueError(f"{', '.join(of_s3)} goes with an s3:// url: remove it, or give such a url")
        return self

    def rclone_options(self) -> dict[str, str]:
        """What of `rclone` rclone itself must get; secrets are read, and in the clear: never to be logged.

        Raises SettingsError.
        """
        options: dict[str, str] = {}
        for key, value in (self.rclone or {}).items():
            if isinstance(value, SecretStr):
                options[key] = value.get_secret_value()
            elif key.removesuffix("_file") in RCLONE_SECRETS[str(self.rclone_type)] and key.endswith("_file"):
                options[key.removesuffix("_file")] = secret_of(None, Path(str(value)), f"rclone.{key}")
            else:
                options[key] = str(value).lower() if isinstance(value, bool) else str(value)
        return options

    @property
    def rclone_type(self) -> str | None:
        """The type of the remote that `rclone` describes."""
        return str(self.rclone["type"]) if self.rclone else None
