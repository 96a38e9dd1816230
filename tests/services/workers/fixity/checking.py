"""A node `north` that keeps one copy of a bag and checks it, its stages run in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import select, update

from dpn.audit.trail import EventType
from dpn.bags.identity import tag_manifest_sha256
from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import insert_missing, open_engine, open_sessions, reading
from dpn.fixity.begin import repair_under_way
from dpn.fixity.copies import remember
from dpn.registry.catalogue import BAGS, DIGESTS, FIXITY_CHECKS, batches, ensure_nodes
from dpn.registry.catalogue.rows import save
from dpn.registry.records import DigestRecord, FixityCheckRecord
from dpn.settings import Settings
from dpn.staging.staging import Staging
from dpn.storage.ownership.own_store import open_own_store
from dpn.storage.store import Store
from dpn.work.items import new_item
from models.manifests import CheckManifest, CopyFacts, Receipt
from models.preservation import StoredCopy
from models.work import AuditEvent, Task, WorkItem
from tests.fixtures.bench import NodeBench
from tests.fixtures.databases import migrate
from tests.fixtures.made_bags import UUID, bag_files, tar_bag
from tests.fixtures.records import LONG_AGO, a_bag
from workers.pipelines import PIPELINES

BAG = UUID
KEY = f"{BAG}.tar"
LEASE_SECONDS = 60.0
C = TypeVar("C", bound="Checker")
LOOK_AGAIN_SECONDS = 7200.0
METADATA = {"from_node": "south", "transfer_id": "1", "member": "m", "local_id": "a thing", "version": "1"}


@dataclass
class Checker(NodeBench):
    """The node, and what its workers and those who tamper with its store do."""

    tar: Path
    receipt: Receipt

    def begin(self, **changes: Any) -> int:
        """Makes the item of a check, as `dpn_queue` does; returns its id."""
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

    def settle(self, item_id: int) -> WorkItem:
        """Runs what is due until nothing is; returns the item."""
        return self.run_until_it_waits(item_id)

    def check(self, **changes: Any) -> WorkItem:
        """A whole check, if nothing makes it wait."""
        return self.settle(self.begin(**changes))

    def later(self, item_id: int, seconds: float = LOOK_AGAIN_SECONDS + 1) -> WorkItem:
        self.clock.advance(seconds)
        return self.settle(item_id)

    # -- what there is -----------------------------------------------------------------------------------------

    def manifest(self, item_id: int) -> CheckManifest:
        return CheckManifest.read(self.item(item_id).manifest)

    def records(self) -> list[FixityCheckRecord]:
        with reading(self.sessions) as session:
            return [record for batch in batches(session, FIXITY_CHECKS) for record in batch]

    def copy(self) -> StoredCopy:
        with reading(self.sessions) as session:
            return session.get_one(StoredCopy, BAG)

    def events(self, item_id: int, event_type: EventType | None = EventType.FIXITY_CHECK) -> list[AuditEvent]:
        return super().events(item_id, event_type)

    def change_settings(self, **fixity: Any) -> None:
        self.settings = self.settings.model_copy(update={"fixity": self.settings.fixity.model_copy(update=fixity)})


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
    migrate(engine)
    sessions = open_sessions(engine)
    # A store's own clock tells when what was restored goes cold: this one begins with it.
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0))
    staging = Staging(sessions, chosen.staging, clock=clock)
    staging.mount()
    tar = tar_bag(folder / "made", bag_files(payload) if payload else files)
    opened = open_own_store(chosen.needed_store(), node="north", sessions=sessions, clock=clock)
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
    """The bag's tar after a misfortune; None if it is gone."""
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
