"""One typed settings object for a node: what may be set, of which type, within which bounds.

Secrets come from the environment or from files (`token_file = …`), never need to stand in the TOML file.
`dpn.settings_file` reads it from there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
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

VOLUME_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")

MEMBER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

SECRETS = ("url", "token", "secret_access_key")
ALTERNATIVES = {name: f"{name}_file" for name in SECRETS} | {f"{name}_file": name for name in SECRETS}
"""Two ways to give one secret: a variable for one of them replaces the other one in the file."""


Tier: TypeAlias = Literal["Bulk", "Standard", "Expedited"]
"""How fast cold storage is asked to be, at what price."""


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


class S3Access(Section):
    """A server that speaks S3, and who we are there."""

    endpoint_url: HttpUrl | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    secret_access_key_file: SecretFile | None = None
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
        return _secret(self.secret_access_key, self.secret_access_key_file)


class StoreSettings(S3Access):
    """The long-term store: `file:///folder` or `s3://bucket/prefix`."""

    name: NamespaceName = "main"
    url: str
    storage_class: Literal[
        "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE"
    ] = "STANDARD"
    part_size_bytes: Annotated[int, Field(ge=5 * 1024 * 1024, le=5 * 1024**3)] = 64 * 1024 * 1024
    upload_threads: PositiveInt = 4
    retrieve_threads: PositiveInt = 4
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


class OutboundSettings(Section):
    """Where the bags of one staging volume lie for other nodes to fetch, and how those see them."""

    folder: AbsolutePath
    link: str
    form: Literal["hardlink", "symlink"] = "hardlink"

    @field_validator("link")
    @classmethod
    def _names_node_and_bag(cls, link: str) -> str:
        try:
            filled = link.format(node="the-node", bag="the-bag")
        except (KeyError, IndexError, ValueError):
            filled = ""
        if "the-bag.tar" not in filled:
            raise ValueError(
                "must say where {bag}.tar is fetched by {node}: dpn.{node}@dpn.example.org:outbound/{bag}.tar"
            )
        return link


class DepositS3Settings(S3Access):
    """Where deposits are fetched from that lie under an `s3://` prefix."""

    fetch_threads: Annotated[int, Field(ge=1, le=64)] = 8
    etags_are_checksums: bool = True


class IngestSettings(Section):
    """How our own bags come into the network."""

    replicate_to_count: Annotated[int, Field(ge=0, le=100)] = 2
    placement_seed: str = ""
    exclude: dict[str, tuple[NamespaceName, ...]] = Field(default_factory=dict)
    outbound: dict[str, OutboundSettings] = Field(default_factory=dict)
    source_folders: tuple[AbsolutePath, ...] = ()
    node_address: str = ""
    contact_name: str = ""
    contact_email: str = ""
    s3: DepositS3Settings = DepositS3Settings()

    @field_validator("exclude")
    @classmethod
    def _by_member(cls, exclude: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for member in exclude:
            if not MEMBER_ID.match(member):
                raise ValueError(f"{member!r} is not the member_id of a member: a UUID in lower case")
        return exclude

    @property
    def copies(self) -> int:
        """How many copies of a bag there are to be, ours included."""
        return self.replicate_to_count + 1


class FixitySettings(Section):
    """How our copies are proven again and again."""

    every_days: PositiveFloat = 730.0
    max_checks_per_run: PositiveInt = 20
    max_bytes_per_day: Annotated[int, Field(ge=0)] = 0
    max_retrieval_cost_per_month: Annotated[float, Field(ge=0)] = 0.0
    retrieval_cost_per_gb: Annotated[float, Field(ge=0)] = 0.0025
    retrieval_tier: Tier = "Bulk"
    max_cold_bytes_per_month: Annotated[int, Field(ge=0)] = 0
    keep_restored_days: PositiveInt = 3
    look_again_seconds: PositiveFloat = 7200.0
    download_retry_seconds: PositiveFloat = 180.0


class RestoreSettings(Section):
    """Which bags we hand back to other nodes that ask for them."""

    refuse: tuple[NamespaceName, ...] = ()
    max_bytes: Annotated[int, Field(ge=0)] = 0
    max_open_per_node: PositiveInt = 20
    keep_offered_days: PositiveFloat = 30.0
    retrieval_tier: Tier = "Bulk"


class RecoverySettings(Section):
    """How we get good copies of bags from other nodes."""

    repair: bool = False
    prefer: tuple[NamespaceName, ...] = ()
    answer_days: PositiveFloat = 7.0


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
    authorization: Literal["token-parameter", "token"] = "token-parameter"
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
    ingest: IngestSettings = IngestSettings()
    fixity: FixitySettings = FixitySettings()
    restore: RestoreSettings = RestoreSettings()
    recovery: RecoverySettings = RecoverySettings()
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


def _secret(value: SecretStr | None, file: Path | None) -> str:
    """Read when it is used: a file that was replaced (a rotated token) counts from then on."""
    if value is not None:
        return value.get_secret_value()
    assert file is not None  # noqa: S101  (the validators hold this)
    try:
        return read_secret(file)
    except ValueError as error:
        raise SettingsError(f"{error}: mend it") from error
