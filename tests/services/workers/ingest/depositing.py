"""A node `north` that ingests, its stages run in this process, and peers that answer as their records say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dpn.broker.embedded import EmbeddedBroker
from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions, reading, upgrade
from dpn.fixity.copies import Copies
from dpn.ingest.submission import DepositRequest, submit
from dpn.outbound.folder import Outbound
from dpn.outbound.withdrawal import OutboundCleanup
from dpn.registry.catalogue import BAGS, DIGESTS, MEMBERS, NODES, TRANSFERS, batches, ensure_nodes, find
from dpn.registry.catalogue import put_transfer as put
from dpn.registry.catalogue.rows import save
from dpn.registry.records import BagRecord, MemberRecord, ReplicationRecord, StorageRecord
from dpn.registry.rules import Accepted, Caller
from dpn.settings import Settings
from dpn.staging.staging import Staging
from dpn.storage.store import Store
from dpn.storage.stores import open_store
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work import leases
from dpn.work.breakers import BreakerPolicy, Breakers
from dpn.work.lifecycle import Policy
from models.manifests import IngestManifest, read_manifest
from models.work import WorkItem
from tests.fixtures.records import LONG_AGO, uuid
from workers.ingest.package import PackageStage
from workers.ingest.record import IngestRecordStage
from workers.ingest.store import IngestStoreStage
from workers.notice.tell import TellStage
from workers.peers import Owners
from workers.pipelines import INGEST_RECORD, INGEST_STORE, PACKAGE, PIPELINES, TELL
from workers.runner.stage_runner import StageRunner
from workers.runner.staged_bytes import StagedBytes
from workers.storing import Storing

MEMBER = uuid(0xFFFF)
LEASE_SECONDS = 60.0
POLL_SECONDS = 300.0
PEERS = ("south", "west", "east")


@dataclass
class Depositor:
    """The node, and what a depositor, its workers, its peers and its cron do."""

    settings: Settings
    sessions: Sessions
    clock: ManualClock
    staging: Staging
    store: Store
    outbound: Outbound

    def submit(self, source: Path | str, local_id: str = "a thing", **more: Any) -> int:
        request = DepositRequest(str(source), MEMBER, local_id, **more)
        with self.sessions.begin() as session:
            return submit(session, request, by="test", pipelines=PIPELINES, clock=self.clock).item

    def run_due(self) -> list[int]:
        """Runs each item that is due now once; answers their ids."""
        runner = self._runner()
        volumes = tuple(self.settings.staging.volumes)
        specs = PIPELINES.all_specs()
        with reading(self.sessions) as session:
            due = leases.due_items(session, stages=specs, volumes=volumes, limit=50, clock=self.clock)
        for item_id in due:
            with self.sessions.begin() as session:
                claim = leases.claim(
                    session,
                    item_id,
                    worker="test",
                    stages=specs,
                    volumes=volumes,
                    lease_seconds=LEASE_SECONDS,
                    clock=self.clock,
                )
            assert claim is not None
            runner.run(claim, Cancellation())
        return due

    def run_until_it_waits(self, item_id: int, rounds: int = 10) -> WorkItem:
        """Runs what is due until nothing is; answers the item."""
        for _ in range(rounds):
            if not self.run_due():
                return self.item(item_id)
        raise AssertionError(f"still due: {self.item(item_id).note}")

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

    def clean_up(self) -> None:
        """What `dpn_cleanup` does with what is offered."""
        log = structlog.stdlib.get_logger()
        OutboundCleanup("north", [self.outbound], self.sessions, self.clock, log).run()

    # -- what there is -----------------------------------------------------------------------------------------

    def item(self, item_id: int) -> WorkItem:
        with reading(self.sessions) as session:
            return session.get_one(WorkItem, item_id)

    def manifest(self, item_id: int) -> IngestManifest:
        manifest = read_manifest("ingest", self.item(item_id).manifest)
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

    def _runner(self) -> StageRunner:
        log = structlog.stdlib.get_logger()
        policy = BreakerPolicy(failures=3, first_seconds=30, max_seconds=900)
        breakers = Breakers(self.sessions, policy, clock=self.clock, jitter=lambda: 0.5)
        stages: Mapping[Any, Any] = {
            PACKAGE: PackageStage(
                "north",
                self.staging,
                self.settings.ingest,
                (
                    *self.settings.staging.volumes.values(),
                    *(o.folder for o in self.settings.ingest.outbound.values()),
                ),
            ),
            INGEST_STORE: IngestStoreStage(
                "north",
                Storing(self.staging, self.store, breakers, POLL_SECONDS),
                Copies(self.sessions, self.settings.fixity.every_days),
            ),
            INGEST_RECORD: IngestRecordStage(
                "north",
                frozenset(self.settings.peers),
                self.sessions,
                self.staging,
                self.settings.ingest,
                self.clock,
                POLL_SECONDS,
            ),
            TELL: TellStage(Owners({}, breakers)),
        }
        work = self.settings.work
        return StageRunner(
            stages=stages,
            sessions=self.sessions,
            broker=EmbeddedBroker(self.sessions.kw["bind"], poll_seconds=1),
            pipelines=PIPELINES,
            policy=Policy(
                work.attempts, work.backoff_first_seconds, work.backoff_max_seconds, work.attention_after_seconds
            ),
            clock=self.clock,
            jitter=lambda: 0.5,
            worker_id="test",
            log=log,
            metrics=WorkerMetrics(),
            ended=StagedBytes(self.staging, log).leave,
        )


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
    upgrade(engine)
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
