"""One typed settings object for a node, from one TOML file with `DPN_*` environment variables over it.

A wrong key, type or path raises `SettingsError`, which names file, key and remedy. Secrets come from the
environment or from files (`token_file = …`), never need to stand in the TOML file.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dpn.errors import Misconfigured
from dpn.setting_types import (
    AbsolutePath,
    Address,
    ExistingFile,
    HttpUrl,
    NamespaceName,
    SecretFile,
    is_loopback,
    read_secret,
)

ENVIRONMENT_PREFIX = "DPN_"
NOT_SETTINGS = {"DPN_CONFIG"}
"""Variables with our prefix that other things read."""

VOLUME_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")

SECRETS = ("url", "token", "secret_access_key")
ALTERNATIVES = {name: f"{name}_file" for name in SECRETS} | {f"{name}_file": name for name in SECRETS}
"""Two ways to give one secret: a variable for one of them replaces the other one in the file."""


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


class NodeSettings(Section):
    """Who we are in the network."""

    namespace: NamespaceName
    name: str = ""
    api_root: HttpUrl
    storage_region: str = "default"
    storage_type: str = "default"


class DatabaseSettings(Section):
    """Where the registry and the work items live."""

    url: SecretStr | None = None
    url_file: SecretFile | None = None
    pool_size: PositiveInt = 10

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give exactly one of url and url_file")
        return self

    def address(self) -> str:
        """The SQLAlchemy URL, password included."""
        return _secret(self.url, self.url_file)


class BrokerSettings(Section):
    """How an item's id reaches a worker."""

    kind: Literal["embedded", "nsq"] = "embedded"
    poll_seconds: PositiveFloat = 1.0
    nsqd_http_addresses: tuple[Address, ...] = ()
    nsqd_tcp_addresses: tuple[Address, ...] = ()
    nsqlookupd_http_addresses: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "nsq":
            if not self.nsqd_http_addresses:
                raise ValueError("broker nsq needs nsqd_http_addresses, where messages are published")
            if not (self.nsqd_tcp_addresses or self.nsqlookupd_http_addresses):
                raise ValueError("broker nsq needs nsqlookupd_http_addresses or nsqd_tcp_addresses to read from")
        return self


class StagingSettings(Section):
    """Where bags lie between being fetched and being stored."""

    volumes: dict[str, AbsolutePath]
    floor_bytes: Annotated[int, Field(ge=0)] = 1_000_000_000
    abandon_after_seconds: PositiveFloat = 3600.0
    quarantine_days: PositiveFloat = 30.0
    quarantine_bytes: Annotated[int, Field(ge=0)] = 100_000_000_000

    @field_validator("volumes")
    @classmethod
    def _named(cls, volumes: dict[str, Path]) -> dict[str, Path]:
        if not volumes:
            raise ValueError('name at least one volume, e.g. main = "/srv/dpn/staging"')
        for name in volumes:
            if not VOLUME_NAME.match(name):
                raise ValueError(f"volume name {name!r}: 1 to 32 lower-case letters, digits, '-' or '_'")
        return volumes


class StoreSettings(Section):
    """The long-term store: `file:///folder` or `s3://bucket/prefix`."""

    name: NamespaceName = "main"
    url: str
    storage_class: Literal[
        "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE"
    ] = "STANDARD"
    endpoint_url: HttpUrl | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    secret_access_key_file: SecretFile | None = None
    part_size_bytes: Annotated[int, Field(ge=5 * 1024 * 1024, le=5 * 1024**3)] = 64 * 1024 * 1024
    upload_threads: PositiveInt = 4
    connect_timeout_seconds: PositiveFloat = 10.0
    read_timeout_seconds: PositiveFloat = 60.0
    abandoned_upload_days: PositiveFloat = 7.0

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
            return url
        if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
            return url
        raise ValueError("must be file:///absolute/folder or s3://bucket[/prefix]")

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
        return _secret(self.secret_access_key, self.secret_access_key_file)


class TransferSettings(Section):
    """How bags are fetched from other nodes."""

    rsync: str = "rsync"
    ssh: str = "ssh"
    identity_file: ExistingFile | None = None
    known_hosts_file: ExistingFile | None = None
    connect_timeout_seconds: PositiveInt = 15
    io_timeout_seconds: PositiveInt = 300
    stall_timeout_seconds: PositiveFloat = 900.0
    bandwidth_limit_kib: Annotated[int, Field(ge=0)] = 0
    size_mismatch: Literal["reject", "warn"] = "reject"
    size_mismatch_attempts: PositiveInt = 3


class ValidationSettings(Section):
    """How bags are judged."""

    profile: str = "dpn"
    threads: Annotated[int, Field(ge=0)] = 0


class WorkSettings(Section):
    """Leases, attempts, back-off and breakers."""

    lease_seconds: PositiveFloat = 60.0
    sweep_seconds: PositiveFloat = 5.0
    heartbeat_seconds: PositiveFloat = 15.0
    attempts: PositiveInt = 10
    backoff_first_seconds: PositiveFloat = 30.0
    backoff_max_seconds: PositiveFloat = 3600.0
    attention_after_seconds: PositiveFloat = 86_400.0
    verdict_poll_seconds: PositiveFloat = 300.0
    breaker_failures: PositiveInt = 3
    breaker_first_seconds: PositiveFloat = 30.0
    breaker_max_seconds: PositiveFloat = 900.0
    concurrency: PositiveInt = 2
    stop_timeout_seconds: PositiveFloat = 7200.0


class ServerSettings(Section):
    """Our registry server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    max_body_bytes: PositiveInt = 1_000_000


class LogSettings(Section):
    """Logs: JSON lines on stderr, and in a file a process where a folder is given."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    directory: AbsolutePath | None = None
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None


class RsyncSource(Section):
    """Where a peer's bags may be fetched from: links that point elsewhere are refused."""

    mode: Literal["ssh", "daemon"] = "ssh"
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity_file: ExistingFile | None = None
    password_file: SecretFile | None = None


class PeerSettings(Section):
    """Another node of the network."""

    allow_plain_http: bool = False
    api_root: HttpUrl
    token: SecretStr | None = None
    token_file: SecretFile | None = None
    ca_file: ExistingFile | None = None
    rsync: RsyncSource
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
        """The token that we show to this peer."""
        return _secret(self.token, self.token_file)


class Settings(Section):
    """Everything a node's processes need to know. Frozen: pass it in, never look it up."""

    node: NodeSettings
    database: DatabaseSettings
    broker: BrokerSettings = BrokerSettings()
    staging: StagingSettings
    store: StoreSettings
    transfer: TransferSettings = TransferSettings()
    validation: ValidationSettings = ValidationSettings()
    work: WorkSettings = WorkSettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    peers: dict[NamespaceName, PeerSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _not_our_own_peer(self) -> Self:
        if self.node.namespace in self.peers:
            raise PydanticCustomError(
                "own_peer",
                "this is the node itself, not a peer: remove the table, or correct node.namespace",
                {"key": f"peers.{self.node.namespace}"},
            )
        return self


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings in the TOML file at `path`, with `DPN_SECTION__KEY` variables over them.

    Raises SettingsError, whose text has one line a problem: file, key, what is wrong, what to do.
    """
    environment = os.environ if environment is None else environment
    values = _read_toml(path)
    origins = _overlay(values, environment)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [_explain(path, problem, origins) for problem in error.errors(include_input=False)]
        raise SettingsError("\n".join(lines)) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file: copy config/node.example.toml there and edit it") from error
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read as a file ({error.strerror}): mend it or name another"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not text in UTF-8 (byte {error.start}): save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}: correct it there") from error


def _overlay(values: dict[str, Any], environment: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Puts the environment's values into `values`; answers which variable each key came from."""
    origins: dict[tuple[str, ...], str] = {}
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        keys = tuple(part.lower() for part in variable.removeprefix(ENVIRONMENT_PREFIX).split("__"))
        if len(keys) < 2 or keys[0] not in Settings.model_fields:
            sections = ", ".join(sorted(Settings.model_fields))
            raise SettingsError(
                f"environment: {variable}: no such setting: unset it, or write DPN_SECTION__KEY"
                f" with a section of {sections}"
            )
        table = _table(values, keys[:-1], variable)
        alternative = ALTERNATIVES.get(keys[-1])
        if alternative and (*keys[:-1], alternative) not in origins:
            table.pop(alternative, None)
        text = environment[variable]
        table[keys[-1]] = _listed(text) if _is_list(keys) else text
        origins[keys] = variable
    return origins


def _table(values: dict[str, Any], keys: Iterable[str], variable: str) -> dict[str, Any]:
    for key in keys:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise SettingsError(
                f"environment: {variable}: {key!r} is a value, not a table: unset the variable or correct its name"
            )
    return values


def _is_list(keys: tuple[str, ...]) -> bool:
    """Whether the setting at `keys` holds several values: a variable gives them separated by commas."""
    return keys[-1].endswith("_addresses") or keys[-1] == "hosts"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


PLAIN_WORDS = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": 'must be a list, e.g. ["a", "b"]',
    "path_type": "must be a path, in quotes",
    "string_type": "must be text, in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
"""What an operator is told where pydantic would speak of Python's types."""


def _explain(path: Path, problem: Any, origins: Mapping[tuple[str, ...], str]) -> str:
    location = tuple(str(part) for part in problem["loc"] if part != "[key]")
    where = _where(path, location, origins)
    key = problem.get("ctx", {}).get("key") or ".".join(location)
    match problem["type"]:
        case "extra_forbidden":
            known = list(_known_keys(location[:-1]))
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
            return f"{where}: {key}: unknown key: remove it or correct it ({hint})"
        case "missing":
            return f"{where}: {key}: missing: add it (config/node.example.toml explains every key)"
        case "own_peer":
            return f"{where}: {key}: {problem['msg']}"
        case kind:
            message = PLAIN_WORDS.get(kind) or problem["msg"]
            message = message.removeprefix("Value error, ").replace("Input should be", "must be", 1)
            return f"{where}: {key}: {message}: correct it (config/node.example.toml explains every key)"


def _where(path: Path, location: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> str:
    """Where the value came from: the file, a variable, or the file with variables over parts of it."""
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            return f"environment: {origins[location[:length]]}"
    inside = [variable for keys, variable in origins.items() if location and keys[: len(location)] == location]
    return f"{path} with {', '.join(inside)} from the environment" if inside else str(path)


def _known_keys(location: Iterable[str]) -> Iterable[str]:
    model: type[BaseModel] = Settings
    for part in location:
        if model is Settings and part == "peers":
            model = PeerSettings
        elif part in model.model_fields:
            annotation = model.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return model.model_fields


def _secret(value: SecretStr | None, file: Path | None) -> str:
    """Read when it is used: a file that was replaced (a rotated token) counts from then on."""
    if value is not None:
        return value.get_secret_value()
    assert file is not None  # noqa: S101  (the validators hold this)
    try:
        return read_secret(file)
    except ValueError as error:
        raise SettingsError(f"{error}: mend it") from error
