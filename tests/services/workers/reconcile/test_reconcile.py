"""Reconciliation: whatever was lost on either side, transfers get to their ends, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from dpn.broker.memory import MemoryBroker, MemoryQueues
from dpn.database import insert_missing, reading
from dpn.errors import StoreMismatch
from dpn.registry.catalogue import TRANSFERS
from dpn.registry.records import ReplicationRecord
from dpn.work.breakers import BreakerPolicy, Breakers
from dpn.work.items import new_item
from models.manifests import Receipt, ReplicationManifest, TransferFacts
from models.work import AuditEvent, DispatchIntent, Status, Task, WorkItem
from tests.fixtures.nasty.peer import Nasty
from tests.fixtures.records import DIGEST, a_bag, a_digest, a_transfer, uuid
from tests.fixtures.scripted.bench import Bench
from tests.fixtures.sync_network import Us, a_restore, network
from workers.peers import Peers
from workers.pipelines import PIPELINES
from workers.queue import Queue, QueueResult
from workers.reconcile.reconcile import Reconcile, Reconciled
from workers.replication.store import StoreStage

TRANSFER = a_transfer().replication_id
CANCELLED = {"cancelled": True, "cancel_reason": "other", "cancel_reason_detail": "no room here"}


class Node(Us):
    """South, its items and its reconciliation."""

    def reconcile(self, *, lost: bool = False) -> Reconciled:
        """With north. `lost`: whether it may fail."""
        with capture_logs() as self.logs:
            log = structlog.stdlib.get_logger()
            (result,) = Reconcile("south", self.clients(), self.sessions, PIPELINES, self.clock, log).run()
        assert result.ok or lost, result
        assert not [line for line in self.logs if "exc_info" in line]
        return result

    def queue(self) -> QueueResult:
        with capture_logs():
            log = structlog.stdlib.get_logger()
            broker = MemoryBroker(MemoryQueues(self.clock))
            return Queue("south", frozenset(self.peers), self.sessions, broker, PIPELINES, self.clock, log).run()

    def transfers(self) -> dict[str, ReplicationRecord]:
        return {record.replication_id: record for record in self.has(TRANSFERS)}

    def an_item(self, number: int = 1, *, receipt: bool = False, **values: Any) -> int:
        """Our item for that transfer."""
        manifest = ReplicationManifest(receipt=a_receipt(self) if receipt else None, fixity_sent=DIGEST)
        row = new_item(
            task=Task.REPLICATION,
            identifier=a_transfer(number).replication_id,
            remote_node="north",
            note="as it was",
            manifest=manifest.model_dump(mode="json"),
            pipelines=PIPELINES,
            clock=self.clock,
        )
        with self.sessions.begin() as session:
            insert_missing(session, WorkItem, [{**row, **values}])
            return session.scalars(select(WorkItem.id).where(WorkItem.identifier == row["identifier"])).one()

    def item(self, task: Task = Task.REPLICATION, number: int = 1) -> WorkItem | None:
        wanted = (WorkItem.task == task, WorkItem.identifier == a_transfer(number).replication_id)
        with reading(self.sessions) as session:
            return session.scalars(select(WorkItem).where(*wanted)).one_or_none()

    def the_item(self) -> WorkItem:
        item = self.item()
        assert item is not None
        return item

    def events(self) -> list[tuple[str, str]]:
        with reading(self.sessions) as session:
            return [(one.event_type, one.outcome) for one in session.scalars(select(AuditEvent))]

    def intents(self) -> list[str]:
        with reading(self.sessions) as session:
            return list(session.scalars(select(DispatchIntent.topic)))


def a_receipt(node: Us) -> Receipt:
    return Receipt(
        store="main", url="file:///store/bag.tar", key="bag.tar", size=1, sha256=DIGEST, part_size=1,
        part_sha256=[DIGEST], confirmed_at=node.clock.now(), confirmed_by="read-back",
    )  # fmt: skip


def synced(database_url: str, folder: Path) -> Iterator[Node]:
    """North asks south to keep a bag, and south has synced."""
    with network(database_url, folder, "north") as us:
        us.peers["north"].show(a_bag(), a_digest(), a_transfer())
        us.sync()
        yield Node(us.sessions, us.clock, us.peers)


@pytest.fixture
def node(database_url: str, tmp_path: Path) -> Iterator[Node]:
    """On SQLite and on PostgreSQL."""
    yield from synced(database_url, tmp_path)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Node]:
    """On SQLite: for what does not depend on the database."""
    yield from synced(f"sqlite:///{tmp_path / 'south.db'}", tmp_path)


def at_north(node: Us, **fields: Any) -> None:
    """The owner's record is so now, behind our back."""
    when = node.clock.now() + timedelta(seconds=len(node.peers["north"].front.seen))
    node.peers["north"].show(a_transfer(**{"updated_at": when, **fields}))


def here(node: Us, **fields: Any) -> None:
    """Our copy of the record is so now."""
    from dpn.registry.catalogue.rows import save

    with node.sessions.begin() as session:
        save(session, TRANSFERS, [a_transfer(**fields)])


def test_an_item_that_was_lost_is_made_again(node: Node) -> None:
    assert node.reconcile().items_missing == 1
    assert node.queue().created == 1
    assert node.reconcile().items_missing == 0


def test_what_goes_on_as_it_should_is_left_as_it_is(node: Node) -> None:
    node.an_item(note="copying")
    result = node.reconcile()
    assert (result.compared, result.closed, result.reopened, result.told) == (1, 0, 0, 0)
    assert (node.the_item().note, node.events()) == ("copying", [])


@pytest.mark.parametrize(
    ("at_owner", "receipt", "status", "note"),
    [
        (CANCELLED, False, Status.CANCELLED, "cancelled the transfer"),
        (CANCELLED, True, Status.FAILED, "the copy stays at file:///store/bag.tar"),
        ({**CANCELLED, "cancel_reason": "fixity_reject"}, False, Status.FAILED, "refused the bag's fixity"),
        ({"store_requested": True, "fixity_value": DIGEST, "stored": True}, False, Status.FAILED, "no receipt"),
    ],
)  # fmt: skip
def test_an_item_whose_transfer_has_ended_at_its_owner_is_closed_and_says_why(
    quick: Node, at_owner: dict[str, Any], receipt: bool, status: Status, note: str
) -> None:
    quick.an_item(receipt=receipt, stage="store", staging_volume="a")
    at_north(quick, **at_owner)
    assert quick.reconcile().closed == 1
    item = quick.the_item()
    assert (item.status, item.staging_volume, item.needs_attention) == (status, None, status is Status.FAILED)
    assert note in item.note
    assert item.completed_at is not None
    assert quick.events() == [("item closed", status.value)]
    assert quick.transfers()[TRANSFER].is_final, "our registry knows, too"
    assert quick.reconcile().closed == 0
    assert quick.item(Task.NOTICE) is None, "its owner need not be told what it told us"


def test_an_item_that_was_interrupted_after_it_had_told_its_owner_is_left_to_its_stage(quick: Node) -> None:
    """Which notes that the owner knows, and that it told it: neither cron job ends it without."""
    quick.an_item(receipt=True, stage="store")
    at_north(quick, store_requested=True, fixity_value=DIGEST, stored=True)
    assert quick.reconcile().closed == 0
    assert quick.transfers()[TRANSFER].stored
    assert quick.queue().closed == 0
    assert (quick.the_item().status, quick.events()) == (Status.PENDING, [])


def test_what_a_live_worker_holds_is_not_touched_and_what_a_dead_one_held_is(node: Node) -> None:
    lease = {"status": Status.RUNNING, "lease_owner": "a", "lease_token": 7}
    node.an_item(**lease, lease_expires_at=node.clock.now() + timedelta(seconds=60))
    at_north(node, **CANCELLED)
    assert node.reconcile().closed == 0
    assert node.queue().closed == 0
    assert (node.the_item().status, node.the_item().lease_token) == (Status.RUNNING, 7)
    node.clock.advance(61)
    assert node.queue().closed == 1
    assert (node.the_item().status, node.the_item().lease_token) == (Status.CANCELLED, 8)


def test_a_copy_that_its_owner_has_forgotten_is_proven_and_told_again(node: Node) -> None:
    """The owner was restored from a backup of before we told it."""
    node.an_item(receipt=True, status=Status.SUCCESS, stage="store", completed_at=node.clock.now(), attempts=3)
    here(node, store_requested=True, fixity_value=DIGEST, stored=True, updated_at=node.clock.now())
    result = node.reconcile()
    assert (result.reopened, result.corrected) == (1, 1)
    item = node.the_item()
    assert (item.status, item.stage, item.attempts, item.completed_at) == (Status.PENDING, "store", 0, None)
    assert item.manifest["receipt"] is not None
    assert node.intents() == ["dpn_replication_store_topic"]
    assert ("item reopened", "pending") in node.events()
    assert ("record corrected", "open") in node.events()
    assert not node.transfers()[TRANSFER].stored
    assert node.queue().closed == 0, "what our registry knew is no reason to close it again"
    assert node.reconcile().reopened == 0


class OneCopy:
    """A store with a copy, or without."""

    name = "main"

    def __init__(self, *, is_damaged: bool = False) -> None:
        self.is_damaged = is_damaged
        self.proven = 0

    def confirm(self, receipt: Receipt, **_: Any) -> Receipt:
        self.proven += 1
        if self.is_damaged:
            raise StoreMismatch("the object has another checksum")
        return receipt


def run_store(node: Node, store: OneCopy) -> WorkItem:
    """One run of the item's store stage, against the owner's real registry."""
    breakers = Breakers(node.sessions, BreakerPolicy(5, 30, 600), clock=node.clock, jitter=lambda: 0.5)
    owners = Peers(node.clients(), breakers)
    unused: Any = None
    a_store: Any = store
    stage = StoreStage(owners, unused, a_store, breakers, verdict_poll_seconds=60)
    return Bench(node.sessions, node.clock).run(node.the_item().id, stage.run)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_an_owner_forgot_is_told_from_the_fixity_on_and_only_of_a_copy_that_is_there(
    quick: Node, is_damaged: bool
) -> None:
    item = quick.an_item(receipt=True, status=Status.SUCCESS, stage="store")
    facts = {
        name: getattr(a_transfer(), name) for name in TransferFacts.model_fields if hasattr(a_transfer(), name)
    }
    facts |= {"size": 1, "local_id": "bag", "member": uuid(1), "version": 1, "bag_type": "D"}
    manifest = {**quick.the_item().manifest, "transfer": facts, "stored_acknowledged": True}
    with quick.sessions.begin() as session:
        session.execute(update(WorkItem).where(WorkItem.id == item).values(manifest=manifest))
    assert quick.reconcile().reopened == 1
    store = OneCopy(is_damaged=is_damaged)
    ended = run_store(quick, store)
    at_owner = quick.clients()["north"].get_transfer(TRANSFER)
    assert store.proven == 1
    assert at_owner.stored is not is_damaged
    if is_damaged:
        assert (ended.status, ended.stage, ended.manifest["receipt"]) == (Status.PENDING, "copy", None)
    else:
        assert (ended.status, at_owner.fixity_value) == (Status.SUCCESS, DIGEST)


def test_a_list_that_was_read_too_early_opens_nothing_again(quick: Node) -> None:
    """The worker told the owner between the list and the look at the item: asked once more, the owner knows."""
    stored = {"store_requested": True, "fixity_value": DIGEST, "stored": True}
    quick.an_item(receipt=True, status=Status.SUCCESS)
    at_north(quick, **stored)
    list_path = "/api-v2/replicate/"
    quick.peers["north"].front.answers[list_path] = {
        "count": 1, "next": None, "previous": None, "results": [a_transfer().to_wire()],
    }  # fmt: skip
    assert quick.reconcile().reopened == 0
    assert quick.the_item().status == Status.SUCCESS


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_an_owner_that_waits_for_what_we_gave_up_is_told(node: Node, status: Status) -> None:
    node.an_item(status=status, note="gave up: no such luck", needs_attention=True)
    assert node.reconcile().told == 1
    notice = node.item(Task.NOTICE)
    assert notice is not None
    assert (notice.status, notice.manifest["cancel_reason_detail"]) == (Status.PENDING, "gave up: no such luck")
    assert node.reconcile().told == 0, "it is under way"
    with node.sessions.begin() as session:
        session.execute(update(WorkItem).where(WorkItem.task == Task.NOTICE).values(status=Status.SUCCESS))
    assert node.reconcile().told == 1, "it had heard, and was restored from a backup"
    notice = node.item(Task.NOTICE)
    assert notice is not None
    assert notice.status == Status.PENDING
    assert node.queue().created == 0


def test_transfers_cancelled_here_and_open_at_their_owner_begin_anew(quick: Node) -> None:
    """Our items were restored from an old backup and so was the owner; only our registry remembers."""
    here(quick, **CANCELLED, updated_at=quick.clock.now())
    assert quick.queue().created == 0
    assert (quick.reconcile().corrected, quick.queue().created) == (1, 1)


def test_an_item_whose_record_our_registry_has_lost_gets_its_record_back(quick: Node) -> None:
    quick.an_item()
    with quick.sessions.begin() as session:
        session.execute(TRANSFERS.table.delete())
    assert quick.reconcile().updated == 1
    assert list(quick.transfers()) == [TRANSFER]


def test_a_transfer_that_its_owner_does_not_know_is_reported_and_left_alone(node: Node) -> None:
    node.an_item()
    with node.peers["north"].registry.sessions.begin() as session:
        session.execute(TRANSFERS.table.delete())
    result = node.reconcile()
    assert result.reported == {"unknown to its owner": 1}
    assert result.reports == [f"unknown to its owner: {TRANSFER}"]
    assert node.the_item().status == Status.PENDING
    (line,) = [line for line in node.logs if line["event"] == "reconciliation with a node"]
    assert line["log_level"] == "warning"


def test_a_transfer_of_a_bag_that_is_not_here_is_set_aside_and_gets_no_item_yet(quick: Node) -> None:
    quick.peers["north"].show(a_bag(9, admin_node="west"), a_transfer(9, bag=9))
    result = quick.reconcile()
    assert (result.items_missing, result.set_aside) == (1, 1)
    assert list(quick.aside()) == [a_transfer(9).replication_id]
    assert quick.queue().created == 1


def test_a_copy_that_its_owner_counts_on_and_nobody_can_prove_is_reported(quick: Node) -> None:
    at_north(quick, store_requested=True, fixity_value=DIGEST, stored=True)
    assert quick.reconcile().reported == {"stored for its owner, no receipt here": 1}


def test_a_list_without_its_filters_is_not_believed(node: Node) -> None:
    """A peer that drops filters shows ended transfers and others' among the open ones."""
    node.peers["north"].show(a_transfer(2, to_node="west"), a_transfer(3, **CANCELLED))
    node.an_item()
    node.an_item(3)
    node.peers["north"].front.behave(Nasty.UNFILTERED, path="/replicate/?")
    result = node.reconcile()
    assert result.unusable == 2
    assert node.the_item().status == Status.PENDING
    assert node.item(number=2) is None
    assert uuid(0x1002) not in node.transfers()
    item = node.item(number=3)
    assert item is not None
    assert item.status == Status.CANCELLED, "asked for by itself"


@pytest.mark.parametrize("behaviour", [Nasty.ERROR_500, Nasty.TRUNCATED, Nasty.NOT_A_LIST])
def test_a_peer_that_fails_changes_nothing_and_is_said(quick: Node, behaviour: Nasty) -> None:
    quick.an_item()
    quick.peers["north"].front.behave(behaviour)
    result = quick.reconcile(lost=True)
    assert result.error
    assert quick.events() == []


def test_many_are_compared_in_batches_not_one_by_one(quick: Node) -> None:
    north = quick.peers["north"]
    north.show(*[a_bag(number) for number in range(2, 302)])
    north.show(*[a_transfer(number, bag=number) for number in range(2, 302)])
    quick.sync()
    north.front.seen.clear()
    result = quick.reconcile()
    assert (result.items_missing, quick.queue().created) == (301, 301)
    assert len(north.front.seen) < 10


def test_restores_asked_of_us_are_brought_up_to_date(quick: Node) -> None:
    quick.peers["north"].show(a_restore())
    quick.sync()
    at = quick.clock.now()
    quick.peers["north"].show(a_restore(accepted=True, updated_at=at))
    assert quick.reconcile().open_restores == 1
    quick.peers["north"].show(a_restore(accepted=True, cancelled=True, cancel_reason="other", updated_at=at))
    assert quick.reconcile().open_restores == 0


def test_transfers_of_ours_that_are_open_at_the_other_side_are_only_reported(quick: Node) -> None:
    from dpn.registry.catalogue import BAGS
    from dpn.registry.catalogue.rows import save

    with quick.sessions.begin() as session:
        save(session, BAGS, [a_bag(8, admin_node="south")])
        save(session, TRANSFERS, [a_transfer(8, bag=8, from_node="south", to_node="north")])
    before = quick.transfers()
    assert quick.reconcile().open_from_us == 1
    assert quick.transfers() == before


def test_dpn_queue_closes_what_our_registry_knows_to_have_ended(node: Node) -> None:
    node.an_item(1)
    here(node, **CANCELLED, updated_at=node.clock.now())
    result = node.queue()
    assert (result.closed, result.created) == (1, 0)
    assert node.the_item().status == Status.CANCELLED
    assert "no room here" in node.the_item().note
    assert node.queue().closed == 0
    with reading(node.sessions) as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 1
