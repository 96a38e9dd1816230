"""One typed settings object for a node: what may be set, of which type, within which bounds.

Each table is a section that lies beside what it configures; here they are put together, with what belongs to no
folder. Secrets come from the environment or from files (`token_file = …`), never need to stand in the TOML file.
`dpn.settings_file` reads it from there.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveInt, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from dpn.bags.validation.settings import ValidationSettings
from dpn.broker.settings import BrokerSettings, NsqSettings
from dpn.fixity.settings import FixitySettings
from dpn.ingest.settings import IngestSettings
from dpn.objects.settings import RootSettings
from dpn.outbound.settings import RestoreSettings
from dpn.recovery.settings import RecoverySettings
from dpn.registry.settings import NodeSettings, RegistryAccess
from dpn.server.settings import ServerSettings
from dpn.setting_types import AbsolutePath, NamespaceName, Section, needed, secret_of
from dpn.staging.settings import StagingSettings
from dpn.storage.settings import StoreSettings
from dpn.supervision.settings import ProcessesSettings
from dpn.telemetry.settings import LogSettings
from dpn.transfer.settings import RsyncSource, TransferSettings
from dpn.work.settings import WorkSettings

MOVED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("broker", key): ("broker", "nsq", key) for key in NsqSettings.model_fields
}
"""Where keys stand now that stood elsewhere in earlier versions; there they are still read."""


class DatabaseSettings(Section):
    """Where the registry and the work items live."""

    url: SecretStr | None = None
    url_file: AbsolutePath | None = None
    pool_size: PositiveInt = 10
    prepared_statements: bool = True

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give exactly one of url and url_file")
        return self

    def address(self) -> str:
        """The SQLAlchemy URL, password included."""
        return secret_of(self.url, self.url_file, "database.url_file")


class PeerSettings(RegistryAccess):
    """Another node of the network."""

    rsync: RsyncSource


class Settings(Section):
    """Everything a node's processes need to know. Frozen: pass it in, never look it up."""

    node: NodeSettings
    database: DatabaseSettings
    broker: BrokerSettings = BrokerSettings()
    staging: StagingSettings = StagingSettings()
    store: StoreSettings | None = None
    transfer: TransferSettings = TransferSettings()
    validation: ValidationSettings = ValidationSettings()
    work: WorkSettings = WorkSettings()
    ingest: IngestSettings = IngestSettings()
    fixity: FixitySettings = FixitySettings()
    restore: RestoreSettings = RestoreSettings()
    recovery: RecoverySettings = RecoverySettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    processes: ProcessesSettings = ProcessesSettings()
    roots: dict[NamespaceName, RootSettings] = Field(default_factory=dict)
    peers: dict[NamespaceName, PeerSettings] = Field(default_factory=dict)

    def needed_store(self) -> StoreSettings:
        """Raises Misconfigured if there is none."""
        return needed(self.store, "[store]", 'say where bags are kept, e.g. url = "file:///srv/dpn/store"')

    @model_validator(mode="after")
    def _not_our_own_peer(self) -> Self:
        if self.node.namespace in self.peers:
            raise PydanticCustomError(
                "own_peer",
                "this is the node itself, not a peer: remove the table, or correct node.namespace",
                {"key": f"peers.{self.node.namespace}"},
            )
        return self
