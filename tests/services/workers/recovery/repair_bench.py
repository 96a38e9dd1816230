"""North, one of whose copies goes bad, and nodes that keep the same bag: those really speak to north's registry
server, and really offer what they give through rsync. North's stages run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from dpn.access import tokens
from dpn.audit.trail import EventType
from dpn.clock import SystemClock
from dpn.database import Sessions, insert_missing, open_engine, open_sessions, reading
from dpn.recovery.requests import open_request
from dpn.registry.catalogue import BAGS, RESTORES, batches, put_restore
from dpn.registry.catalogue.rows import save
from dpn.registry.client import RegistryClient
from dpn.registry.records import RestoreRecord
from dpn.registry.rules import Accepted, Caller
from dpn.server.app import create_app
from dpn.settings import PeerSettings
from dpn.work.items import new_item
from models.manifests import RecoveryManifest
from models.work import AuditEvent, Status, Task, WorkItem
from tests.fixtures.records import a_bag, uuid
from tests.fixtures.registry import registry_of
from tests.services.workers.fixity.checking import BAG, KEY, METADATA, Checker, damage, make_checker
from tests.services.workers.replication.consortium import RegistryServer
from workers.pipelines import PIPELINES

POLL_SECONDS = 300.0
ANSWER_DAYS = 7.0
DAY = 86_400.0


@dataclass(frozen=True)
class AtTheTable:
    """Writes to north's registry as the node `name` would, without a server between: for tests of many runs."""

    sessions: Sessions
    name: str

    def list_restores(self, **_: Any) -> Iterator[list[RestoreRecord]]:
        is_open = {"from_node": self.name, "finished": False, "cancelled": False}
        with reading(self.sessions) as session:
            yield from batches(session, RESTORES, is_open)

    def put_restore(self, record: RestoreRecord) -> RestoreRecord:
        caller, now = Caller(self.name, "north"), SystemClock().now()
        with self.sessions.begin() as session:
            decision = put_restore(session, record.restore_id, record, caller=caller, now=now)
        assert isinstance(decision, Accepted), decision
        return decision.record

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class Holder:
    """A node that keeps the bag, as far as north sees it."""

    name: str
    client: RegistryClient | AtTheTable
    folder: Path
    link: str
    tar: Path

    def asked(self) -> RestoreRecord | None:
        """The request to this node that is open, as north's registry shows it."""
        pages = self.client.list_restores(from_node=self.name, finished=False, cancelled=False)
        records = [record for page in pages for record in page if isinstance(record, RestoreRecord)]
        assert len(records) <= 1
        return records[0] if records else None

    def accept(self) -> None:
        self._put(accepted=True)

    def offer(self, content: bytes | None = None, *, link: str | None = None) -> None:
        """Puts the bag, or what else it likes, where it says."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / KEY).unlink(missing_ok=True)
        if content is None:
            shutil.copyfile(self.tar, self.folder / KEY)
        else:
            (self.folder / KEY).write_bytes(content)
        self._put(accepted=True, link=link or f"{self.link}/{KEY}")

    def decline(self, detail: str = "we do not hand bags back") -> None:
        self._put(cancelled=True, cancel_reason="reject", cancel_reason_detail=detail)

    def _put(self, **changes: Any) -> None:
        record = self.asked()
        assert record is not None, f"{self.name} is not asked"
        self.client.put_restore(record.change(**changes))


@dataclass
class RepairBench(Checker):
    """North, with all that repairs take."""

    holders: dict[str, Holder] = field(default_factory=dict)

    # -- what goes on --------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Our copy, in a folder."""
        return Path(self.receipt.url.removeprefix("file://"))

    def spoil(self, how: str) -> None:
        """Has a misfortune befall our copy in its folder."""
        content = damage(self.path.read_bytes(), how)
        self.path.unlink()
        if content is not None:
            self.path.write_bytes(content)

    def find_bad(self) -> WorkItem:
        """A check, which finds our copy bad; returns its item."""
        item = self.check()
        assert item.status == "failed", item.note
        return item

    def repair(self) -> WorkItem:
        """The last repair that was opened."""
        return self._last(Task.RECOVERY)

    def last_check(self) -> WorkItem:
        return self._last(Task.FIXITY)

    def repairs(self) -> int:
        with reading(self.sessions) as session:
            return len(session.scalars(select(WorkItem.id).where(WorkItem.task == Task.RECOVERY)).all())

    def go_on(self) -> WorkItem:
        """Lets time pass until the repair is looked at again, and runs all there is to do; returns the repair."""
        self.clock.advance(POLL_SECONDS + 1)
        return self.settle(self.repair().id)

    def try_until_it_waits(self) -> WorkItem:
        """Goes on until the repair waits for another node, or has ended."""
        for _ in range(20):
            item = self.go_on()
            if item.completed_at is not None or (item.stage == "ask" and "asked " in item.note):
                return item
        raise AssertionError(item.note)

    def story(self, bag: str = BAG) -> list[tuple[str, str]]:
        """What a curator reads of the bag."""
        with reading(self.sessions) as session:
            events = session.scalars(select(AuditEvent).where(AuditEvent.object_id == bag).order_by(AuditEvent.id))
            return [(event.event_type, event.outcome) for event in events]

    def event(self, event_type: EventType) -> AuditEvent:
        with reading(self.sessions) as session:
            chosen = select(AuditEvent).where(AuditEvent.event_type == event_type).order_by(AuditEvent.id.desc())
            return session.scalars(chosen).first()  # type: ignore[return-value]

    def recovery(self) -> RecoveryManifest:
        return RecoveryManifest.read(self.repair().manifest)

    def requests(self) -> dict[str, RestoreRecord]:
        """Our requests by the node that was asked; the newest of each."""
        with reading(self.sessions) as session:
            records = [record for batch in batches(session, RESTORES) for record in batch]
        return {record.from_node: record for record in sorted(records, key=lambda record: record.created_at)}

    def ask_for_others(self, node: str, count: int) -> list[RestoreRecord]:
        """North has asked the node for so many other bags, too, and waits for them."""
        now = self.clock.now()
        with self.sessions.begin() as session:
            save(session, BAGS, [a_bag(number) for number in range(100, 100 + count)])
            return [
                open_request(
                    session, bag=uuid(number), from_node=node, us="north", restore_id=str(uuid4()), now=now
                )
                for number in range(100, 100 + count)
            ]

    def begin_drill(self, node: str, *, size: int | None = None) -> int:
        manifest = RecoveryManifest(
            bag=BAG,
            size=self.receipt.size if size is None else size,
            tag_manifest_sha256=self.digest,
            purpose="drill",
            only_node=node,
        )
        row = new_item(
            task=Task.RECOVERY,
            identifier=str(uuid4()),
            remote_node=None,
            note="a drill",
            manifest=manifest.model_dump(mode="json"),
            pipelines=PIPELINES,
            clock=self.clock,
        )
        with self.sessions.begin() as session:
            insert_missing(session, WorkItem, [row])
        return self.repair().id

    def expect_repaired(self) -> None:
        """Our copy is the bag again, our books say so, it was checked again, and nothing lies about."""
        repair, check = self.repair(), self.last_check()
        assert repair.status == Status.SUCCESS, repair.note
        assert not repair.needs_attention
        assert b"".join(self.store.read(KEY)) == self.tar.read_bytes()
        assert self.recovery().check_item == check.id
        assert check.status == Status.SUCCESS, check.note
        copy = self.copy()
        assert (copy.outcome, copy.item_id, copy.sha256) == ("good", repair.id, self.receipt.sha256)
        assert [one.success for one in sorted(self.records(), key=lambda one: one.created_at)][-1]
        assert (self.staged(), self.reservations()) == ([], 0)
        stored = self.store.head(KEY)
        assert stored is not None
        assert {name: stored.metadata[name] for name in ("member", "local_id", "version", "from_node")}

    def expect_cold_repaired(self) -> None:
        """As `expect_repaired`, of a copy that can only be read once it is restored: its check has read it."""
        repair, check = self.repair(), self.last_check()
        assert (repair.status, check.status) == (Status.SUCCESS, Status.SUCCESS), (repair.note, check.note)
        assert (self.copy().outcome, self.copy().item_id) == ("good", repair.id)
        assert self.recovery().check_item == check.id
        assert not self.recovery().good_again

    def _last(self, task: Task) -> WorkItem:
        with reading(self.sessions) as session:
            last = select(WorkItem).where(WorkItem.task == task).order_by(WorkItem.id.desc())
            return session.scalars(last).first()  # type: ignore[return-value]


@contextmanager
def repair_bench(
    folder: Path,
    daemon: Mapping[str, Any],
    *,
    holders: tuple[str, ...] = ("south", "west"),
    repair: bool = True,
    served: bool = True,
    **options: Any,
) -> Iterator[RepairBench]:
    """North and those who keep the bag; `daemon` is what services.json says of the rsync daemon.

    `served`: whether those speak to a real registry server.
    """
    host, port, unique = daemon["host"], daemon["port"], str(uuid4())
    peers = {
        name: {
            "api_root": "http://127.0.0.1:9",
            "token": "not used",
            "rsync": {"mode": "daemon", "hosts": [host], "port": port},
        }
        for name in holders
    }
    more = {"peers": peers, "recovery": {"repair": repair, "answer_days": ANSWER_DAYS}}
    north = make_checker(folder, kind=RepairBench, settings=more, holders=holders, **options)
    engine = open_engine(north.settings.database.address())
    theirs = open_sessions(engine)
    app = create_app(registry_of(theirs, north.settings, SystemClock()))
    server = RegistryServer(app) if served else None
    try:
        for name in holders:
            client: RegistryClient | AtTheTable = AtTheTable(theirs, name)
            if server is not None:
                with north.sessions.begin() as session:
                    token = tokens.issue(session, name, now=north.clock.now())
                access = {**peers[name], "api_root": server.address, "token": token}
                client = RegistryClient("north", PeerSettings.model_validate(access))
            root = Path(daemon["modules"]["outbound"]) / unique / name
            link = f"rsync://{host}:{port}/outbound/{unique}/{name}"
            north.holders[name] = Holder(name, client, root, link, north.tar)
        yield north
    finally:
        for holder in north.holders.values():
            holder.client.close()
        if server is not None:
            server.stop()
        engine.dispose()
        north.sessions.kw["bind"].dispose()
        shutil.rmtree(Path(daemon["modules"]["outbound"]) / unique, ignore_errors=True)


__all__ = [
    "ANSWER_DAYS",
    "BAG",
    "DAY",
    "KEY",
    "METADATA",
    "POLL_SECONDS",
    "Holder",
    "RepairBench",
    "damage",
    "repair_bench",
]
