"""A replication from the transfer's record to the receipt, with real servers on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dpn.cancellation import Cancellation
from dpn.database import reading
from dpn.errors import LeaseLost
from dpn.registry.catalogue import BAGS, find
from models.preservation import StoredCopy
from models.work import AuditEvent, DiskReservation, Status
from tests.services.workers.replication.consortium import North, South


def stored_file(south: South, bag: Path) -> Path:
    return Path(south.settings.store.url.removeprefix("file://")) / bag.name


def test_a_bag_is_copied_validated_stored_and_its_owner_told(north: North, south: South, bag: Path) -> None:
    transfer = north.deposit(bag)
    item = south.settle(south.request(transfer))
    assert (item.status, item.needs_attention) == (Status.SUCCESS, False), item.note
    assert stored_file(south, bag).read_bytes() == bag.read_bytes()
    told = north.transfer(transfer.replication_id)
    assert told.stored
    assert told.store_requested
    with reading(north.sessions) as session:
        record = find(session, BAGS, bag.stem)
    assert record is not None
    assert set(record.replicating_nodes) == {"north", "south"}


def test_the_receipt_says_what_the_store_holds_and_how_that_was_confirmed(
    north: North, south: South, bag: Path
) -> None:
    item = south.settle(south.request(north.deposit(bag)))
    receipt = south.manifest(item.id).receipt
    assert receipt is not None
    assert receipt.sha256 == hashlib.sha256(bag.read_bytes()).hexdigest()
    assert receipt.size == bag.stat().st_size
    assert receipt.confirmed_by == "read-back"


def test_a_stored_bag_is_remembered_to_be_checked_in_time(north: North, south: South, bag: Path) -> None:
    item = south.settle(south.request(north.deposit(bag)))
    receipt = south.manifest(item.id).receipt
    assert receipt is not None
    with reading(south.sessions) as session:
        copy = session.get_one(StoredCopy, bag.stem)
    assert (copy.item_id, copy.sha256, copy.outcome) == (item.id, receipt.sha256, "unchecked")
    assert copy.due_at == receipt.confirmed_at + timedelta(days=south.settings.fixity.every_days)


def test_nothing_stays_staged_or_reserved_after_success(north: North, south: South, bag: Path) -> None:
    south.settle(south.request(north.deposit(bag)))
    assert south.staged() == []
    with reading(south.sessions) as session:
        assert session.scalars(select(DiskReservation)).all() == []


def test_sync_and_queue_find_the_transfer_once_however_often_they_run(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    for _ in range(3):
        south.sync_and_queue()
    south.settle_all()
    south.sync_and_queue()
    with reading(south.sessions) as session:
        transfers = session.scalars(
            select(AuditEvent.object_id).where(AuditEvent.event_type == "replication")
        ).all()
    assert transfers == [bag.stem]
    assert north.transfer(transfer.replication_id).stored


def test_real_bags_of_the_network_replicate(north: North, south: South, shared_data: Path) -> None:
    bags = sorted((shared_data / "dpn-bags").glob("*.tar"))
    assert bags
    items = [south.request(north.deposit(bag)) for bag in bags]
    for bag, item in zip(bags, items, strict=True):
        assert south.settle(item).status == Status.SUCCESS, south.item(item).note
        assert stored_file(south, bag).read_bytes() == bag.read_bytes()


def test_a_bag_that_is_invalid_is_quarantined_and_its_owner_learns_the_first_error(
    north: North, south: South, bag: Path
) -> None:
    damaged = bytearray(bag.read_bytes())
    damaged[damaged.index(bytes(range(64))) + 5] ^= 1
    bag.write_bytes(damaged)
    transfer = north.deposit(bag)
    item = south.settle(south.request(transfer))
    south.settle_all()
    assert item.status == Status.FAILED
    assert item.needs_attention
    assert item.stage == "validate"
    told = north.transfer(transfer.replication_id)
    assert told.cancelled
    assert told.cancel_reason == "bag_invalid"
    assert told.cancel_reason_detail is not None
    assert "data/a.bin" in told.cancel_reason_detail
    assert len(told.cancel_reason_detail) <= 255
    kept = list((south.settings.staging.volumes["main"] / "quarantine").rglob("*.tar"))
    assert [path.read_bytes() for path in kept] == [bytes(damaged)]
    assert not stored_file(south, bag).exists()


def test_a_tag_manifest_that_differs_is_refused_by_the_owner_and_never_stored(
    north: North, south: South, make_bag: Callable[..., Path], tmp_path: Path
) -> None:
    bag = make_bag()
    transfer = north.deposit(bag)
    other = make_bag(70_000)
    damaged = bag.read_bytes().replace(b"manifest-sha256.txt\n", b"manifest-sha256.tXt\n")
    assert damaged != bag.read_bytes()
    assert other != bag
    (north.outbound / bag.name).write_bytes(damaged)
    item = south.settle(south.request(transfer))
    south.settle_all()
    assert item.status == Status.FAILED
    assert "refused the bag's fixity" in item.note
    assert north.transfer(transfer.replication_id).cancel_reason == "fixity_reject"
    assert not stored_file(south, bag).exists()


def test_a_bag_is_never_stored_unless_its_owner_asks_for_it(north: North, south: South, bag: Path) -> None:
    """An owner that takes our fixity and gives no verdict: we wait, we do not store."""
    transfer = north.deposit(bag)
    south.clients["north"] = WithoutVerdict(south.clients["north"])
    item = south.request(transfer)
    south.settle(item, until=lambda row: "not yet asked us to store" in row.note)
    for _ in range(20):
        south.clock.advance(3600)
        south.run_due()
    waiting = south.item(item)
    assert (waiting.stage, waiting.status) == ("copy", Status.PENDING)
    assert waiting.attempts == 0
    assert not stored_file(south, bag).exists()
    south.clients["north"] = south.clients["north"].client  # type: ignore[attr-defined]
    assert south.settle(item).status == Status.SUCCESS


@pytest.mark.parametrize("stage", ["copy", "validate", "store"])
def test_a_transfer_that_its_owner_cancels_ends_cancelled_at_every_stage(
    north: North, south: South, bag: Path, stage: str
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == stage)
    cancel_at_owner(north, transfer.replication_id)
    ended = south.settle(item)
    assert ended.status == Status.CANCELLED
    assert "no longer wanted" in ended.note
    assert not ended.needs_attention
    assert not stored_file(south, bag).exists()


def test_a_link_that_changes_after_we_accepted_stops_the_item(north: North, south: South, bag: Path) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    change_at_owner(north, transfer.replication_id, link=north.link("other/" + bag.name))
    ended = south.settle(item)
    assert ended.status == Status.FAILED
    assert "link" in ended.note
    assert not stored_file(south, bag).exists()


def test_a_cancellation_that_could_not_be_sent_is_sent_when_the_owner_is_back(
    north: North, south: South, bag: Path
) -> None:
    damaged = bytearray(bag.read_bytes())
    damaged[damaged.index(bytes(range(64))) + 5] ^= 1
    bag.write_bytes(damaged)
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "validate")
    reachable = south.clients["north"]
    south.clients["north"] = Unreachable()
    assert south.settle(item).status == Status.FAILED
    for _ in range(10):
        south.clock.advance(3600)
        south.run_due()
    assert not north.transfer(transfer.replication_id).cancelled
    south.clients["north"] = reachable
    south.settle_all()
    assert north.transfer(transfer.replication_id).cancel_reason == "bag_invalid"


def test_a_peer_that_is_down_for_days_costs_no_attempt_and_calls_for_attention(
    north: North, south: South, bag: Path
) -> None:
    item = south.request(north.deposit(bag))
    reachable = south.clients["north"]
    south.clients["north"] = Unreachable()
    for _ in range(60):
        south.clock.advance(3600)
        south.run_due()
    waiting = south.item(item)
    assert (waiting.status, waiting.attempts, waiting.needs_attention) == (Status.PENDING, 0, True)
    assert "peer:north" in waiting.note
    south.clients["north"] = reachable
    assert south.settle(item).status == Status.SUCCESS


def test_an_answer_that_was_lost_after_stored_is_found_to_have_arrived(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    reachable = south.clients["north"]
    south.clients["north"] = AnswersGetLost(reachable)
    south.settle(item, until=lambda row: "unavailable" in row.note)
    assert north.transfer(transfer.replication_id).stored
    assert south.staged(), "the staged copy stays until the owner's answer was heard"
    south.clients["north"] = reachable
    assert south.settle(item).status == Status.SUCCESS


def test_a_run_that_lost_its_lease_stores_nothing(north: North, south: South, bag: Path) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    lost = Cancellation()
    lost.cancel(LeaseLost("taken over"))
    south.run_due(cancellation=lost)
    assert not stored_file(south, bag).exists()
    assert not north.transfer(transfer.replication_id).stored
    south.clock.advance(120)
    assert south.settle(item).status == Status.SUCCESS


def cancel_at_owner(north: North, replication_id: str) -> None:
    change_at_owner(
        north, replication_id, cancelled=True, cancel_reason="other", cancel_reason_detail="no longer wanted"
    )


def change_at_owner(north: North, replication_id: str, **values: object) -> None:
    from models.registry import ReplicationTransfer

    with north.sessions.begin() as session:
        row = session.get_one(ReplicationTransfer, replication_id)
        for name, value in values.items():
            setattr(row, name, value)


class Wrapped:
    """A client that does as another does, but for what a subclass changes."""

    def __init__(self, client: object) -> None:
        self.client = client

    def __getattr__(self, name: str) -> object:
        return getattr(self.client, name)


class WithoutVerdict(Wrapped):
    """An owner whose registry records our fixity and judges nothing."""

    def get_transfer(self, replication_id: str):  # type: ignore[no-untyped-def]
        return self.client.get_transfer(replication_id).change(store_requested=False)  # type: ignore[attr-defined]

    def put_transfer(self, record):  # type: ignore[no-untyped-def]
        return self.client.put_transfer(record).change(store_requested=False)  # type: ignore[attr-defined]


class Unreachable:
    """An owner that is down."""

    def __getattr__(self, name: str) -> object:
        from dpn.errors import PeerUnavailable

        def refuse(*_: object, **__: object) -> None:
            raise PeerUnavailable("peer:north", "connection refused")

        return refuse


class AnswersGetLost(Wrapped):
    """An owner that does what it is told, but whose answer never arrives."""

    def put_transfer(self, record):  # type: ignore[no-untyped-def]
        from dpn.errors import PeerUnavailable

        self.client.put_transfer(record)  # type: ignore[attr-defined]
        raise PeerUnavailable("peer:north", "the answer was lost")


class RefusesReads(Wrapped):
    """An owner that answers no question about the transfer any more, as long as it is told to."""

    def get_transfer(self, replication_id):  # type: ignore[no-untyped-def]
        from dpn.errors import PeerRefused

        raise PeerRefused("north", 400, "no")


def test_an_owner_that_cannot_be_asked_after_we_stored_is_asked_on_and_nothing_is_cancelled(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    willing = south.clients["north"]
    south.clients["north"] = RefusesStored(willing)  # type: ignore[assignment]
    south.settle(item, until=lambda row: row.stage == "store" and row.needs_attention)
    south.clients["north"] = RefusesReads(willing)  # type: ignore[assignment]
    for _ in range(30):
        south.clock.advance(4000)
        south.run_due()
    waiting = south.item(item)
    assert (waiting.stage, waiting.status, waiting.needs_attention) == ("store", Status.PENDING, True)
    south.clients["north"] = willing
    assert south.settle(item).status == Status.SUCCESS
    assert not north.transfer(transfer.replication_id).cancelled


class RefusesStored(Wrapped):
    """An owner that does not want to hear that we have stored its bag."""

    def put_transfer(self, record):  # type: ignore[no-untyped-def]
        from dpn.errors import PeerRefused

        if record.stored:
            raise PeerRefused("north", 400, "stored: no")
        return self.client.put_transfer(record)  # type: ignore[attr-defined]


def test_an_owner_that_refuses_to_take_note_of_a_stored_copy_is_asked_on_and_an_operator_called(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    willing = south.clients["north"]
    south.clients["north"] = RefusesStored(willing)  # type: ignore[assignment]
    for _ in range(30):
        south.run_due()
        south.clock.advance(1000)
    waiting = south.item(item)
    assert (waiting.stage, waiting.status, waiting.needs_attention) == ("store", Status.PENDING, True)
    assert south.manifest(item).receipt is not None
    assert stored_file(south, bag).exists()
    assert not north.transfer(transfer.replication_id).cancelled
    south.clients["north"] = willing
    assert south.settle(item).status == Status.SUCCESS
