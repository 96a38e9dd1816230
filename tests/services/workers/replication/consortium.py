"""Two nodes for tests of stages: north owns bags (a real registry server, a real rsync daemon), south is us.

South's stages run in the test's own process, one claim after the other, with a clock that the test moves: so every
way a replication can go is a short story, on real servers, without waiting.
"""

from __future__ import annotations

import shutil
import socket
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from dpn.access import tokens
from dpn.bags.identity import read_identity, tag_manifest_sha256
from dpn.clock import Clock, ManualClock, SystemClock
from dpn.database import Sessions, open_engine, open_sessions, reading
from dpn.registry.catalogue import BAGS, TRANSFERS, add_bag, add_digest, add_transfer, ensure_nodes, find
from dpn.registry.client import RegistryClient
from dpn.registry.records import BagRecord, DigestRecord, ReplicationRecord
from dpn.registry.rules import Accepted, Caller
from dpn.server.app import create_app
from dpn.settings import Settings
from dpn.staging.staging import Staging
from dpn.storage.stores import open_store
from dpn.work.items import new_item
from models.manifests import ReplicationManifest
from models.work import Task, WorkItem
from tests.fixtures.bench import NodeBench
from tests.fixtures.databases import migrate
from tests.fixtures.registry import registry_of
from workers.peers import PeerClient
from workers.pipelines import PIPELINES
from workers.sync.sync import Sync

MEMBER = "ae7e2c33-9e0a-4d0e-8b5c-0e2a5f1c7d11"
LEASE_SECONDS = 60.0


class RegistryServer:
    """A node's registry on a free port of the loopback address, stopped by `stop`."""

    def __init__(self, app: Any) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


@dataclass
class North:
    """The owner: its registry's database and server, and the folder that its rsync daemon shows."""

    sessions: Sessions
    settings: Settings
    server: RegistryServer
    outbound: Path
    daemon: dict[str, Any]
    clock: Clock = field(default_factory=SystemClock)

    def deposit(self, tar: Path, *, to: str = "south", link: str | None = None, **facts: Any) -> ReplicationRecord:
        """Registers the bag with its digest and asks `to` to copy it. `facts` overrides the bag's record."""
        bag = tar.stem
        if not (self.outbound / tar.name).exists():
            shutil.copyfile(tar, self.outbound / tar.name)
        now = self.clock.now()
        caller = Caller("north", "north")
        with self.sessions.begin() as session:
            if find(session, BAGS, bag) is None:
                _accepted(add_bag(session, _bag_record(tar, now, facts), caller=caller, copies=3))
                digest = DigestRecord(
                    bag=bag, algorithm="sha256", node="north", value=tag_manifest_sha256(tar, bag), created_at=now
                )
                _accepted(add_digest(session, bag, digest, caller=caller, now=now))
            transfer = ReplicationRecord(
                replication_id=str(uuid.uuid4()),
                bag=bag,
                from_node="north",
                to_node=to,
                fixity_algorithm="sha256",
                protocol="rsync",
                link=link or self.link(tar.name),
                created_at=now,
                updated_at=now,
            )
            _accepted(add_transfer(session, transfer, caller=caller))
        return transfer

    def link(self, name: str) -> str:
        return f"rsync://{self.daemon['host']}:{self.daemon['port']}/outbound/{name}"

    def transfer(self, replication_id: str) -> ReplicationRecord:
        """The transfer as north has it now."""
        with reading(self.sessions) as session:
            record = find(session, TRANSFERS, replication_id)
        assert record is not None
        return record


@dataclass
class South(NodeBench):
    """Us."""

    def sync_and_queue(self) -> None:
        """What cron does."""
        log = structlog.stdlib.get_logger()
        clients = {name: client for name, client in self.clients.items() if isinstance(client, RegistryClient)}
        results = Sync(clients, self.sessions, self.clock, log).run()
        assert all(result.ok for result in results), results
        assert self.queue_job().run().ok

    def request(self, transfer: ReplicationRecord) -> int:
        """Makes the item of a transfer without a sync; returns its id."""
        row = new_item(
            task=Task.REPLICATION,
            identifier=transfer.replication_id,
            remote_node=transfer.from_node,
            note="requested",
            manifest=ReplicationManifest().model_dump(mode="json"),
            pipelines=PIPELINES,
            clock=self.clock,
        )
        with self.sessions.begin() as session:
            item = WorkItem(
                **{
                    **row,
                    "run_after": self.clock.now(),
                    "created_at": self.clock.now(),
                    "updated_at": self.clock.now(),
                }
            )
            session.add(item)
        return item.id

    def settle(self, item_id: int, **how: Any) -> WorkItem:
        """Runs what is due, moving the clock to the next item whenever nothing is, until `item_id` has ended."""
        return self.run_until(item_id, **how)

    def settle_all(self) -> None:
        """Runs until no item is pending any more, notices included."""
        for _ in range(60):
            if not self.run_due():
                with reading(self.sessions) as session:
                    if not session.query(WorkItem).filter(WorkItem.status.in_(("pending", "running"))).count():
                        return
                self.clock.advance(max(1.0, (self._next_due() - self.clock.now()).total_seconds()))
        raise AssertionError("items still pending")

    def manifest(self, item_id: int) -> ReplicationManifest:
        return ReplicationManifest.read(self.item(item_id).manifest)


def make_north(folder: Path, daemon: dict[str, Any]) -> North:
    settings = _settings("north", folder, {"south": _peer("http://127.0.0.1:9", "unused", daemon)})
    sessions = _database(settings)
    server = RegistryServer(create_app(registry_of(sessions, settings, SystemClock())))
    return North(sessions, settings, server, Path(daemon["modules"]["outbound"]), daemon)


def make_south(folder: Path, north: North, clock: ManualClock, **sections: dict[str, Any]) -> South:
    with north.sessions.begin() as session:
        token = tokens.issue(session, "south", now=north.clock.now())
    settings = _settings("south", folder, {"north": _peer(north.server.address, token, north.daemon)}, **sections)
    sessions = _database(settings)
    staging = Staging(sessions, settings.staging, clock=clock)
    staging.mount()
    clients: dict[str, PeerClient] = {"north": RegistryClient("north", settings.peers["north"])}
    return South(settings, sessions, clock, staging, open_store(settings.store, clock=clock), clients=clients)


def _settings(namespace: str, folder: Path, peers: dict[str, Any], **sections: dict[str, Any]) -> Settings:
    volume = folder / "staging"
    store = folder / "store"
    for path in (volume, store):
        path.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "node": {"namespace": namespace, "api_root": f"https://{namespace}.example.org"},
        "database": {"url": f"sqlite:///{folder / 'node.sqlite'}"},
        "staging": {"volumes": {"main": str(volume)}, "floor_bytes": 0},
        "store": {"url": f"file://{store}"},
        "peers": peers,
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return Settings.model_validate(values)


def _peer(api_root: str, token: str, daemon: dict[str, Any]) -> dict[str, Any]:
    return {
        "api_root": api_root,
        "token": token,
        "rsync": {"mode": "daemon", "hosts": [daemon["host"]], "port": daemon["port"]},
    }


def _database(settings: Settings) -> Sessions:
    engine = open_engine(settings.database.address())
    migrate(engine)
    sessions = open_sessions(engine)
    with sessions.begin() as session:
        ensure_nodes(session, settings.node, settings.peers, now=SystemClock().now())
    return sessions


def _bag_record(tar: Path, now: Any, facts: dict[str, Any]) -> BagRecord:
    identity = read_identity(tar)
    fields: dict[str, Any] = {
        "uuid": tar.stem,
        "local_id": identity.local_id,
        "member": MEMBER,
        "size": tar.stat().st_size,
        "first_version_uuid": tar.stem,
        "version": 1,
        "bag_type": "D",
        "ingest_node": "north",
        "admin_node": "north",
        "replicating_nodes": ("north",),
        "created_at": now,
        "updated_at": now,
    }
    return BagRecord(**{**fields, **facts})


def _accepted(decision: Any) -> None:
    assert isinstance(decision, Accepted), decision
