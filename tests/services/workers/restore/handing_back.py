"""`north`, which keeps a copy of a bag, and `south`, which asks for it at a registry server of its own.

North's stages, its syncs and its queue run in this process; its clock is the test's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import event, select
from structlog.testing import capture_logs

from dpn.database import reading
from dpn.recovery.requests import finish, give_up, open_request
from dpn.registry.catalogue import BAGS, DIGESTS, RESTORES, ensure_nodes, find
from dpn.registry.catalogue.rows import save
from dpn.registry.client import RegistryClient
from dpn.registry.records import DigestRecord, RestoreRecord
from dpn.settings import Settings
from models.manifests import RestoreManifest
from models.work import Task, WorkItem
from tests.fixtures.records import LONG_AGO, a_bag
from tests.fixtures.registry import RunningRegistry, peer_settings, running_registry
from tests.services.workers.fixity.checking import BAG, Checker, make_checker
from workers.pipelines import PIPELINES
from workers.queue import QueueResult
from workers.reconcile.reconcile import Reconcile, Reconciled
from workers.sync.sync import Sync

LINK = "rsync://north.example.org/outbound/{node}/{bag}.tar"


@dataclasses.dataclass
class Holder(Checker):
    """North: what its cron and its workers do. `clients` may be replaced by a test."""

    requester: Requester = dataclasses.field(init=False)
    log: Any = dataclasses.field(default_factory=structlog.stdlib.get_logger)

    # -- cron --------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        with capture_logs():
            results = Sync(self.clients, self.sessions, self.clock, structlog.stdlib.get_logger()).run()
        assert all(result.ok for result in results), results

    def hear_of(self, restore_id: str) -> None:
        """As a sync, of this one request."""
        with self.sessions.begin() as session:
            save(session, RESTORES, [self.requester.record(restore_id)])

    def queue(self) -> QueueResult:
        with capture_logs():
            return self.queue_job().run()

    def cron(self) -> QueueResult:
        self.sync()
        return self.queue()

    def reconcile(self) -> Reconciled:
        with capture_logs():
            log = structlog.stdlib.get_logger()
            (result,) = Reconcile("north", self.clients, self.sessions, PIPELINES, self.clock, log).run()
        assert result.ok, result
        return result

    # -- what there is -------------------------------------------------------------------------------------------

    def item_of(self, restore_id: str, task: Task = Task.RESTORE) -> WorkItem | None:
        identifier = restore_id if task is Task.RESTORE else f"restore:{restore_id}"
        with reading(self.sessions) as session:
            wanted = select(WorkItem).where(WorkItem.task == task, WorkItem.identifier == identifier)
            return session.scalars(wanted).one_or_none()

    def the_item(self, restore_id: str) -> WorkItem:
        item = self.item_of(restore_id)
        assert item is not None
        return item

    def restore_manifest(self, restore_id: str) -> RestoreManifest:
        manifest = RestoreManifest.read(self.the_item(restore_id).manifest)
        assert isinstance(manifest, RestoreManifest)
        return manifest

    def our_record(self, restore_id: str) -> RestoreRecord | None:
        with reading(self.sessions) as session:
            return find(session, RESTORES, restore_id)

    @property
    def outbound(self) -> Path:
        return self.settings.ingest.outbound["main"].folder

    def offered(self) -> list[str]:
        """What lies in the outbound folder, for nodes and for itself."""
        return sorted(str(path.relative_to(self.outbound)) for path in self.outbound.rglob("*") if path.is_file())

    def offered_to_south(self) -> Path:
        return self.outbound / "south" / f"{BAG}.tar"

    # -- its workers ---------------------------------------------------------------------------------------------

    def hand_out(self, restore_id: str) -> WorkItem:
        """From cron to the offer, if nothing makes it wait."""
        self.cron()
        self.run_all()
        return self.the_item(restore_id)

    def poll(self) -> None:
        """What happens at the next look whether the requester has fetched it."""
        self.clock.advance(self.settings.work.verdict_poll_seconds + 1)
        self.run_all()

    def change(self, section: str, **values: Any) -> None:
        """Other settings from now on."""
        changed = getattr(self.settings, section).model_copy(update=values)
        self.settings = self.settings.model_copy(update={section: changed})


@dataclasses.dataclass
class Requester:
    """South: its registry's database and server, and what its operators do."""

    registry: RunningRegistry
    clock: Any

    def ask(self, restore_id: str | None = None, bag: str = BAG) -> str:
        """Asks north for the bag; returns the request's id."""
        restore_id = restore_id or str(uuid4())
        now = self.clock.now()
        with self.registry.sessions.begin() as session:
            open_request(session, bag=bag, from_node="north", us="south", restore_id=restore_id, now=now)
        return restore_id

    def repeat(self, restore_id: str, times: int) -> None:
        """Asks for the same again and again, which its own rules forbid."""
        record = self.record(restore_id)
        again = [record.model_copy(update={"restore_id": str(uuid4())}) for _ in range(times)]
        with self.registry.sessions.begin() as session:
            save(session, RESTORES, again)

    def finish(self, restore_id: str) -> None:
        with self.registry.sessions.begin() as session:
            finish(session, restore_id, us="south", now=self.clock.now())

    def cancel(self, restore_id: str, why: str = "no longer needed") -> None:
        with self.registry.sessions.begin() as session:
            give_up(session, restore_id, us="south", reason_detail=why, now=self.clock.now())

    def record(self, restore_id: str) -> RestoreRecord:
        with reading(self.registry.sessions) as session:
            record = find(session, RESTORES, restore_id)
        assert record is not None
        return record

    def tamper(self, restore_id: str, **fields: Any) -> None:
        """Its record is so now, whatever the rules say: south is hostile, or has restored a backup."""
        record = self.record(restore_id).model_copy(update={"updated_at": self.clock.now(), **fields})
        with self.registry.sessions.begin() as session:
            save(session, RESTORES, [record])


@contextmanager
def holder_and_requester(
    folder: Path,
    *,
    database_url: str | None = None,
    store: Mapping[str, Any] | None = None,
    link: str = LINK,
    outbound: Path | None = None,
    **sections: Any,
) -> Iterator[Holder]:
    """North with its stored bag, and south's server."""
    outbound = outbound or folder / "outbound"
    outbound.mkdir(parents=True, exist_ok=True)
    checker = make_checker(folder, database_url=database_url, store=store)
    with running_registry(
        "south",
        database_url=f"sqlite:///{folder / 'south.db'}",
        folder=folder,
        peers=("north",),
        clock=checker.clock,
    ) as registry:
        told = checker.settings.model_dump(exclude_unset=True)
        told["peers"] = {"south": peer_settings(registry.url, token=registry.token("north"))}
        told["ingest"] = {"outbound": {"main": {"folder": str(outbound), "link": link}}}
        settings = Settings.model_validate({**told, **sections})
        holder = Holder(**{field.name: getattr(checker, field.name) for field in dataclasses.fields(Checker)})
        holder.settings = settings
        _do_not_wait_for_the_disk(holder)
        holder.requester = Requester(registry, checker.clock)
        holder.clients = {"south": RegistryClient("south", settings.peers["south"])}
        with holder.sessions.begin() as session:
            ensure_nodes(session, settings.node, settings.peers, now=checker.clock.now())
        size = checker.tar.stat().st_size
        bag = a_bag(uuid=BAG, first_version_uuid=BAG, size=size, replicating_nodes=("north", "south"))
        with holder.sessions.begin() as session:
            save(session, BAGS, [bag])
        digest = DigestRecord(bag=BAG, algorithm="sha256", node="north", value=checker.digest, created_at=LONG_AGO)
        with registry.sessions.begin() as session:
            save(session, BAGS, [bag])
            save(session, DIGESTS, [digest])
        yield holder
        holder.sessions.kw["bind"].dispose()


def _do_not_wait_for_the_disk(holder: Holder) -> None:
    """Processes die in these tests, machines do not."""
    engine = holder.sessions.kw["bind"]
    if engine.dialect.name == "sqlite":
        engine.dispose()

        @event.listens_for(engine, "connect")
        def _off(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA synchronous = OFF")
