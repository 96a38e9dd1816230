"""What the stages of one process are built from: each service is opened when the first stage asks for it.

So a worker demands only what its stages need: settings that nobody asks for may be missing, and a disk or a store
that nobody asks for is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import Misconfigured
from dpn.node import OpenNode
from dpn.runtime import THREADS, Runtime
from dpn.settings import Settings
from dpn.telemetry.logs import Log
from dpn.work.breakers import BreakerPolicy, Breakers
from dpn.work.lifecycle import Policy
from dpn.work.pipeline import Pipelines
from dpn.work.settings import WorkSettings

if TYPE_CHECKING:
    from dpn.bags.validation.profiles import Profile
    from dpn.registry.settings import RegistryAccess
    from dpn.staging.staging import Staging
    from dpn.storage.store import Store
    from dpn.transfer.rsync import FetchFile
    from workers.own_copy import OwnCopies
    from workers.peers import PeerClient, Peers


class Services:
    """See the module's docstring. `clients`, `store`, `staging`, `fetch` replace what the settings give."""

    def __init__(
        self,
        node: OpenNode,
        *,
        pipelines: Pipelines,
        breakers: Breakers,
        clients: Mapping[str, PeerClient] | None = None,
        store: Store | None = None,
        staging: Staging | None = None,
        fetch: FetchFile | None = None,
        runtime: Runtime = THREADS,
    ) -> None:
        self.node = node
        self.pipelines = pipelines
        self.breakers = breakers
        self._clients = clients
        self._store = store
        self._staging = staging
        self._fetch = fetch
        self.runtime = runtime

    @property
    def namespace(self) -> str:
        """Our node's."""
        return self.node.namespace

    @property
    def settings(self) -> Settings:
        return self.node.settings

    @property
    def sessions(self) -> Sessions:
        return self.node.sessions

    @property
    def clock(self) -> Clock:
        return self.node.clock

    @property
    def log(self) -> Log:
        return self.node.log

    @cached_property
    def peers(self) -> Peers:
        """The other nodes that the settings name."""
        from workers.peers import Peers

        return Peers(
            RegistryClients(self.settings.peers) if self._clients is None else self._clients, self.breakers
        )

    @cached_property
    def staging(self) -> Staging:
        """The staging volumes, looked at once. Raises Misconfigured for one that is not what it was, or none."""
        if self._staging is not None:
            return self._staging
        from dpn.staging.staging import Staging

        if not self.settings.staging.volumes:
            raise Misconfigured(
                "[staging.volumes] is missing in the settings: name a folder for bags on their way, e.g. "
                'main = "/srv/dpn/staging"'
            )
        staging = Staging(self.sessions, self.settings.staging, clock=self.clock)
        staging.mount()
        return staging

    @cached_property
    def fetch(self) -> FetchFile:
        """How bags come from peers."""
        from dpn.transfer import rsync

        return self._fetch or rsync.fetch

    @cached_property
    def store(self) -> Store:
        """The long-term store; nothing is asked of it yet."""
        if self._store is not None:
            return self._store
        from dpn.storage.ownership.own_store import open_own_store

        return open_own_store(
            self.settings.needed_store(), node=self.namespace, sessions=self.sessions, clock=self.clock
        )

    @cached_property
    def own_copies(self) -> OwnCopies:
        """Our copies in that store, to be read."""
        from workers.own_copy import OwnCopies

        return OwnCopies(self.store, self.settings.needed_store(), self.breakers)

    @cached_property
    def profile(self) -> Profile | None:
        """What bags are held against."""
        from dpn.bags.validation.profiles import load_profile

        return load_profile(self.settings.validation.profile)


class RegistryClients(Mapping[str, "PeerClient"]):
    """A client a peer, opened when it is first asked for: who speaks with nobody is spared 5 MB of HTTP."""

    def __init__(self, peers: Mapping[str, RegistryAccess]) -> None:
        self._peers = peers
        self._opened: dict[str, PeerClient] = {}
        self._lock = Lock()

    def __getitem__(self, peer: str) -> PeerClient:
        from dpn.registry.client import RegistryClient

        with self._lock:
            if peer not in self._opened:
                self._opened[peer] = RegistryClient(peer, self._peers[peer])
            return self._opened[peer]

    def __contains__(self, peer: object) -> bool:
        return peer in self._peers

    def __iter__(self) -> Iterator[str]:
        return iter(self._peers)

    def __len__(self) -> int:
        return len(self._peers)


def policy(work: WorkSettings) -> Policy:
    """How often and how long items are tried."""
    return Policy(
        attempts=work.attempts,
        backoff_first_seconds=work.backoff_first_seconds,
        backoff_max_seconds=work.backoff_max_seconds,
        attention_after_seconds=work.attention_after_seconds,
    )


def breaker_policy(work: WorkSettings) -> BreakerPolicy:
    """When an outside service is left alone."""
    return BreakerPolicy(
        failures=work.breaker_failures,
        first_seconds=work.breaker_first_seconds,
        max_seconds=work.breaker_max_seconds,
    )
