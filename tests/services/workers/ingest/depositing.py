"""A node `north` that ingests, its stages run in this process, and peers that answer as their records say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpn.clock import ManualClock
from dpn.database import open_engine, open_sessions, reading
from dpn.ingest.submission import DepositRequest, submit
from dpn.outbound.folder import Outbound
from dpn.registry.catalogue import BAGS, DIGESTS, MEMBERS, NODES, TRANSFERS, batches, ensure_nodes, find
from dpn.registry.catalogue import put_transfer as put
from dpn.registry.catalogue.rows import save
from dpn.registry.records import BagRecord, MemberRecord, ReplicationRecord, StorageRecord
from dpn.registry.rules import Accepted, Caller
from dpn.settings import Settings
from dpn.staging.staging import Staging
from dpn.storage.stores import open_store
from models.manifests import IngestManifest
from models.work import WorkItem
from tests.fixtures.bench import NodeBench
from tests.fixtures.databases import migrate
from tests.fixtures.records import LONG_AGO, uuid
from workers.pipelines import PIPELINES

MEMBER = uuid(0xFFFF)
LEASE_SECONDS = 60.0
POLL_SECONDS = 300.0
PEERS = ("south", "west", "east")


@dataclass
class Depositor(NodeBench):
    """The node, and what a depositor, its workers, its peers and its cron do."""

    outbound: Outbound

    def submit(self, source: Path | str, local_id: str = "a thing", **more: Any) -> int:
        request = DepositRequest(str(source), MEMBER, local_id, **more)
        with self.sessions.begin() as session:
            node = self.settings.node.namespace
            return submit(session, request, by="test", node=node, pipelines=PIPELINES, clock=self.clock).item

    def next_poll(self, item_id: int) -> WorkItem:
        self.clock.advance(POLL_SECONDS + 1)
        return self.run_until_it_waits(item_id)

    def peers_store(self, *nodes: str) -> None:
        """Each of these nodes does its part of what is asked of it, as its PUTs would."""
        for transfer in self.transfers():
            if transfer.to_node in nodes and not transfer.is_final:
                digest = self._digest(transfer.bag)
                self.put(transfer.change(fixity_value=digest))
                self.put(transfer.change(fixity_value=digest, store_requested=True, stored=True))

    def peer_declines(self, node: str) -> None:
        for transfer in self.transfers():
            if transfer.to_node == node and not transfer.is_final:
                self.put(transfer.change(cancelled=True, cancel_reason="reject", cancel_reason_detail="no room"))

    def put(self, transfer: ReplicationRecord) -> None:
        with self.sessions.begin() as session:
            decision = put(
                session,
                transfer.replication_id,
                transfer,
                caller=Caller(transfer.to_node, "north"),
                now=self.clock.now(),
                copies=self.settings.ingest.copies,
            )
        assert isinstance(decision, Accepted), decision

    # -- what there is -----------------------------------------------------------------------------------------

    def manifest(self, item_id: int) -> IngestManifest:
        manifest = IngestManifest.read(self.item(item_id).manifest)
        assert isinstance(manifest, IngestManifest)
        return manifest

    def records(self, kind: Any) -> list[Any]:
        with reading(self.sessions) as session:
            return [record for batch in batches(session, kind) for record in batch]

    def transfers(self) -> list[ReplicationRecord]:
        return self.records(TRANSFERS)

    def bag(self, item_id: int) -> BagRecord | None:
        with reading(self.sessions) as session:
            return find(session, BAGS, self.manifest(item_id).deposit.bag)

    def _digest(self, bag: str) -> str:
        (digest,) = [record for record in self.records(DIGESTS) if record.bag == bag]
        value: str = digest.value
        return value

    def offered(self) -> list[tuple[str, str | None]]:
        return [(entry.bag, entry.node) for entry in self.outbound.entries()]


def make_depositor(
    folder: Path, *, database_url: str | None = None, peers: tuple[str, ...] = PEERS, **ingest: Any
) -> Depositor:
    """North, with these peers, a member, and everything in `folder`."""
    for name in ("staging", "store", "outbound"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    outbound = {"folder": str(folder / "outbound"), "link": "rsync://127.0.0.1:1/outbound/{node}/{bag}.tar"}
    settings = Settings.model_validate(
        {
            "node": {"namespace": "north", "api_root": "https://north.example.org"},
            "database": {"url": database_url or f"sqlite:///{folder / 'node.db'}"},
            "staging": {"volumes": {"main": str(folder / "staging")}, "floor_bytes": 0},
            "store": {"url": (folder / "store").as_uri()},
            "ingest": {"replicate_to_count": 2, "outbound": {"main": outbound}, **ingest},
            "peers": {
                name: {"api_root": "http://127.0.0.1:1", "token": "x", "rsync": {"hosts": ["127.0.0.1"]}}
                for name in peers
            },
        }
    )
    engine = open_engine(settings.database.address())
    migrate(engine)
    sessions = open_sessions(engine)
    clock = ManualClock()
    with sessions.begin() as session:
        ensure_nodes(session, settings.node, settings.peers, now=clock.now())
        member = MemberRecord(
            member_id=MEMBER, name="A library", email="a@example.org", created_at=LONG_AGO, updated_at=LONG_AGO
        )
        save(session, MEMBERS, [member])
    staging = Staging(sessions, settings.staging, clock=clock)
    staging.mount()
    store = open_store(settings.store, clock=clock)
    return Depositor(settings, sessions, clock, staging, store, Outbound(settings.ingest.outbound["main"]))


def place(depositor: Depositor, node: str, region: str) -> None:
    """Says in which region a node keeps its copies."""
    with depositor.sessions.begin() as session:
        record = find(session, NODES, node)
        assert record is not None
        save(session, NODES, [record.change(storage=StorageRecord(region=region, type="default"))])
