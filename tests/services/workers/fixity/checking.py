"""A node `north` that keeps one copy of a bag and checks it, its stages run in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from sqlalchemy import func, select, update

from dpn.audit.trail import EventType, events_of_item
from dpn.bags.identity import tag_manifest_sha256
from dpn.bags.validation.profiles import load_profile
from dpn.broker.embedded import EmbeddedBroker
from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import Sessions, insert_missing, open_engine, open_sessions, reading, upgrade
from dpn.fixity.begin import repair_under_way
from dpn.fixity.copies import remember
from dpn.fixity.repairs import Repairs
from dpn.fixity.thaw_budget import ColdBudget
from dpn.registry.catalogue import BAGS, DIGESTS, FIXITY_CHECKS, batches, ensure_nodes
from dpn.registry.catalogue.rows import save
from dpn.registry.records import DigestRecord, FixityCheckRecord
from dpn.settings import Settings
from dpn.staging.staging import Staging
from dpn.storage.store import Store
from dpn.storage.stores import open_store
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work import leases
from dpn.work.breakers import BreakerPolicy, Breakers
from dpn.work.items import new_item
from dpn.work.lifecycle import Policy
from dpn.work.pipeline import StageSpec
from models.manifests import CheckManifest, CopyFacts, Receipt, read_manifest
from models.preservation import StoredCopy
from models.work import AuditEvent, DiskReservation, Task, WorkItem
from tests.fixtures.made_bags import UUID, bag_files, tar_bag
from tests.fixtures.records import LONG_AGO, a_bag
from workers.fixity.check import CheckStage
from workers.fixity.retrieve import RetrieveStage
from workers.fixity.thaw import RestoreInitStage
from workers.notice.tell import TellStage
from workers.own_copy import OurCopies
from workers.peers import Owners
from workers.pipelines import CHECK, PIPELINES, RESTORE_INIT, RETRIEVE, TELL
from workers.runner.stage_runner import StageRunner
from workers.runner.staged_bytes import StagedBytes
from workers.stage import Stage

BAG = UUID
KEY = f"{BAG}.tar"
LEASE_SECONDS = 60.0
C = TypeVar("C", bound="Checker")
LOOK_AGAIN_SECONDS = 7200.0
METADATA = {"from_node": "south", "transfer_id": "1", "member": "m", "local_id": "a thing", "version": "1"}


@dataclass
class Checker:
    """The node, and what its workers and those who tamper with its store do."""

    settings: Settings
    sessions: Sessions
    clock: ManualClock
    staging: Staging
    store: Store
    tar: Path
    receipt: Receipt

    def begin(self, **changes: Any) -> int:
        """Makes the item of a check, as `dpn_queue` does; answers its id."""
        facts = CopyFacts(
            bag=BAG,
            store=self.receipt.store,
            key=self.receipt.key,
            size=self.receipt.size,
            sha256=self.receipt.sha256,
            tag_manifest_sha256=self.digest,
            receipt=self.receipt,
        ).model_copy(update=changes)
        row = new_item(
            task=Task.FIXITY,
            identifier=str(uuid4()),
            remote_node=None,
            note="to be checked",
            manifest=CheckManifest(copied=facts).model_dump(mode="json"),
            pipelines=PIPELINES,
            clock=self.clock,
        )
        with self.sessions.begin() as session:
            insert_missing(session, WorkItem, [row])
            made = select(WorkItem.id).where(WorkItem.identifier == row["identifier"])
            item_id = session.scalars(made).one()
            if repair_under_way(session, BAG) is None:
                session.execute(update(StoredCopy).values(check_item=item_id, begun_at=self.clock.now()))
            return item_id

    @property
    def digest(self) -> str:
        return tag_manifest_sha256(self.tar, BAG)

    def run_due(self, most: int = 50) -> list[int]:
        """Runs each item that is due now once; answers their ids."""
        runner = self._runner()
        volumes, specs = tuple(self.settings.staging.volumes), PIPELINES.all_specs()
        with reading(self.sessions) as session:
            due = leases.due_items(session, stages=specs, volumes=volumes, limit=most, clock=self.clock)
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

    def settle(self, item_id: int, rounds: int = 10) -> WorkItem:
        """Runs what is due until nothing is; answers the item."""
        for _ in range(rounds):
            if not self.run_due():
                return self.item(item_id)
        raise AssertionError(f"still due: {self.item(item_id).note}")

    def check(self, **changes: Any) -> WorkItem:
        """A whole check, if nothing makes it wait."""
        return self.settle(self.begin(**changes))

    def later(self, item_id: int, seconds: float = LOOK_AGAIN_SECONDS + 1) -> WorkItem:
        self.clock.advance(seconds)
        return self.settle(item_id)

    # -- what there is -----------------------------------------------------------------------------------------

    def item(self, item_id: int) -> WorkItem:
        with reading(self.sessions) as session:
            return session.get_one(WorkItem, item_id)

    def manifest(self, item_id: int) -> CheckManifest:
        manifest = read_manifest("fixity", self.item(item_id).manifest)
        assert isinstance(manifest, CheckManifest)
        return manifest

    def records(self) -> list[FixityCheckRecord]:
        with reading(self.sessions) as session:
            return [record for batch in batches(session, FIXITY_CHECKS) for record in batch]

    def copy(self) -> StoredCopy:
        with reading(self.sessions) as session:
            return session.get_one(StoredCopy, BAG)

    def events(self, item_id: int, event_type: EventType = EventType.FIXITY_CHECK) -> list[AuditEvent]:
        with reading(self.sessions) as session:
            return [event for event in events_of_item(session, item_id) if event.event_type == event_type]

    def reservations(self) -> int:
        with reading(self.sessions) as session:
            return session.scalar(select(func.count()).select_from(DiskReservation)) or 0

    @property
    def volume(self) -> Path:
        return self.settings.staging.volumes["main"]

    def staged(self) -> list[Path]:
        return [path for path in (self.volume / "items").rglob("*") if path.is_file()]

    def quarantined(self) -> list[Path]:
        return list((self.volume / "quarantine").rglob("*.tar"))

    def clean_up(self) -> None:
        """What housekeeping does with what crashes left; this clock is behind that of the disk."""
        self.staging.release_orphans()
        self.staging.sweep_orphans(grace_seconds=-1e9)

    def change_settings(self, **fixity: Any) -> None:
        self.settings = self.settings.model_copy(update={"fixity": self.settings.fixity.model_copy(update=fixity)})

    def _runner(self) -> StageRunner:
        log = structlog.stdlib.get_logger()
        policy = BreakerPolicy(failures=3, first_seconds=30, max_seconds=900)
        breakers = Breakers(self.sessions, policy, clock=self.clock, jitter=lambda: 0.5)
        work = self.settings.work
        return StageRunner(
            stages=self.stages(breakers),
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

    def stages(self, breakers: Breakers) -> Mapping[StageSpec, Stage]:
        settings = self.settings
        copies = OurCopies(self.store, settings.store, breakers)
        return {
            RESTORE_INIT: RestoreInitStage(
                copies,
                ColdBudget(self.sessions, settings.fixity.max_cold_bytes_per_month, self.clock),
                settings.fixity,
                settings.fixity.retrieval_tier,
                self.clock,
            ),
            RETRIEVE: RetrieveStage(copies, self.staging, settings.fixity, self.clock),
            CHECK: CheckStage(
                "north",
                self.sessions,
                copies,
                self.staging,
                load_profile(settings.validation.profile),
                settings.validation,
                settings.fixity,
                self.clock,
                Repairs(PIPELINES, self.clock) if settings.recovery.repair else None,
            ),
            TELL: TellStage(Owners({}, breakers)),
        }


def make_checker(
    folder: Path,
    *,
    store: Mapping[str, Any] | None = None,
    database_url: str | None = None,
    payload: Mapping[str, bytes] | None = None,
    files: Mapping[str, bytes] | None = None,
    registered: str | None = "right",
    kind: type[C] = Checker,  # type: ignore[assignment]
    settings: Mapping[str, Any] | None = None,
    holders: Sequence[str] = (),
) -> C:
    """North, with everything in `folder`, which has stored one bag; by default in a folder, too.

    `registered`: the tag manifest's digest in our registry, if any. `settings`: further tables. `holders`: other
    nodes that our registry names for the bag.
    """
    for name in ("staging", "store", "made"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    chosen = Settings.model_validate(
        {
            "node": {"namespace": "north", "api_root": "https://north.example.org"},
            "database": {"url": database_url or f"sqlite:///{folder / 'node.db'}"},
            "staging": {"volumes": {"main": str(folder / "staging")}, "floor_bytes": 0},
            "store": dict(store or {"url": (folder / "store").as_uri()}),
            "validation": {"threads": 1},
            "fixity": {"look_again_seconds": LOOK_AGAIN_SECONDS},
            **(settings or {}),
        }
    )
    engine = open_engine(chosen.database.address())
    upgrade(engine)
    sessions = open_sessions(engine)
    # A store's own clock tells when what was restored goes cold: this one begins with it.
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0))
    staging = Staging(sessions, chosen.staging, clock=clock)
    staging.mount()
    tar = tar_bag(folder / "made", bag_files(payload) if payload else files)
    opened = open_store(chosen.store, clock=clock)
    checker = kind(chosen, sessions, clock, staging, opened, tar, put(opened, tar))
    with sessions.begin() as session:
        ensure_nodes(session, chosen.node, chosen.peers, now=clock.now())
        keepers = ("north", *holders)
        bag = a_bag(uuid=BAG, first_version_uuid=BAG, size=tar.stat().st_size, replicating_nodes=keepers)
        save(session, BAGS, [bag])
        if registered is not None:
            value = checker.digest if registered == "right" else registered
            digest = DigestRecord(bag=BAG, algorithm="sha256", node="north", value=value, created_at=LONG_AGO)
            save(session, DIGESTS, [digest])
        remember(
            session,
            checker.receipt,
            bag=BAG,
            tag_manifest_sha256=checker.digest,
            item_id=None,
            every_days=chosen.fixity.every_days,
        )
    return checker


def put(store: Store, tar: Path) -> Receipt:
    return store.put(
        tar,
        KEY,
        sha256=hashlib.sha256(tar.read_bytes()).hexdigest(),
        metadata=METADATA,
        resume=None,
        checkpoint=lambda _: None,
        cancellation=Cancellation(),
    )


def damage(content: bytes, how: str) -> bytes | None:
    """The bag's tar after a misfortune; none if it is gone."""
    if how == "bit flip in the payload":
        return _flip(content, content.index(b"first\n"))
    if how == "bit flip in the tag manifest":
        return _flip(content, content.index(b"  bagit.txt\n") - 1)
    if how == "bit flip in the padding":
        return _flip(content, len(content) - 1)
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    if how == "another file":
        return b"not a tar at all"
    assert how == "deleted"
    return None


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


MISFORTUNES = {
    "bit flip in the payload": "data/a.txt",
    "bit flip in the tag manifest": "bagit.txt",
    "bit flip in the padding": "its SHA-256 is",
    "truncated": "",
    "empty": "",
    "another file": "not",
    "deleted": "it is not there",
}
"""What may happen to a stored copy, and a word of what is found."""
