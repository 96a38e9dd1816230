"""What others can see is done only by who holds the item, of a bag found good, and while its owner wants it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from dpn.database import reading
from dpn.errors import PeerUnavailable
from dpn.registry.records import ReplicationRecord
from dpn.work.items import cancel_item
from models.preservation import StoredCopy
from models.registry import ReplicationTransfer
from models.work import Status, Task, WorkItem
from tests.fixtures.overheard import Overheard, take_over
from tests.services.workers.replication.consortium import North, South
from workers.pipelines import PIPELINES

LATER_SECONDS = 3600.0
CANCELLED = {"cancelled": True, "cancel_reason": "other", "cancel_reason_detail": "no longer wanted"}


def is_stored(south: South, bag: Path) -> bool:
    return (Path(south.settings.store.url.removeprefix("file://")) / bag.name).exists()


def has_changed(north: North, replication_id: str, **values: Any) -> None:
    """The owner's record is so now."""
    with north.sessions.begin() as session:
        session.execute(
            update(ReplicationTransfer)
            .where(ReplicationTransfer.replication_id == replication_id)
            .values(**values)
        )


@pytest.mark.parametrize(
    ("telling", "forgotten"),
    [
        ("fixity_value", {}),
        ("stored", {}),
        pytest.param("stored", {"fixity_value": None, "store_requested": False}, id="fixity_value again"),
    ],
)
def test_a_late_worker_tells_the_owner_nothing(
    north: North, south: South, bag: Path, telling: str, forgotten: dict[str, Any]
) -> None:
    """All that comes before is done and saved, and the lease is lost between the last question and the telling."""

    def down(record: ReplicationRecord) -> None:
        if getattr(record, telling):
            raise PeerUnavailable("peer:north", "down")

    transfer, reachable = north.deposit(bag), south.clients["north"]
    item = south.request(transfer)
    south.clients["north"] = Overheard(reachable, told=down)
    south.settle(item, until=lambda row: "down" in row.note)
    if forgotten:
        has_changed(north, transfer.replication_id, **forgotten)
    told: list[ReplicationRecord] = []
    south.clients["north"] = Overheard(reachable, lambda: take_over(south.sessions, item), told.append)
    south.clock.advance(LATER_SECONDS)
    assert south.run_due() == [item]
    assert told == []
    south.clients["north"] = reachable
    south.clock.advance(LATER_SECONDS)
    assert south.settle(item).status == Status.SUCCESS


def test_a_late_worker_tells_of_no_end(north: North, south: South, bag: Path) -> None:
    transfer, reachable = north.deposit(bag), south.clients["north"]
    item = south.request(transfer)
    with south.sessions.begin() as session:
        cancel_item(session, item, reason="no", operator="ann", pipelines=PIPELINES, clock=south.clock)
        notice = session.scalars(select(WorkItem.id).where(WorkItem.task == Task.NOTICE)).one()
    told: list[ReplicationRecord] = []
    south.clients["north"] = Overheard(reachable, lambda: take_over(south.sessions, notice), told.append)
    assert south.run_due() == [notice]
    assert told == []
    south.clients["north"] = reachable
    south.clock.advance(LATER_SECONDS)
    south.settle(notice)
    assert north.transfer(transfer.replication_id).cancelled


class TakenOverMeanwhile:
    """A store, and an item that another worker has by the time that its bag is to become visible there."""

    def __init__(self, south: South, item: int) -> None:
        self._store, self._south, self._item = south.store, south, item

    def put(self, *what: Any, **how: Any) -> Any:
        take_over(self._south.sessions, self._item)
        return self._store.put(*what, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_late_worker_makes_nothing_visible_in_the_store(north: North, south: South, bag: Path) -> None:
    item = south.request(north.deposit(bag))
    south.settle(item, until=lambda row: row.stage == "store")
    south.store = TakenOverMeanwhile(south, item)  # type: ignore[assignment]
    south.run_due()
    assert not is_stored(south, bag)


def test_the_owner_is_asked_again_before_its_bag_becomes_visible(north: North, south: South, bag: Path) -> None:
    """It cancels right after it was asked, while a large bag is on its way."""
    transfer, reachable = north.deposit(bag), south.clients["north"]
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    south.clients["north"] = Overheard(reachable, lambda: has_changed(north, transfer.replication_id, **CANCELLED))
    south.run_due()
    ended = south.item(item)
    assert (ended.status, is_stored(south, bag)) == (Status.CANCELLED, False), ended.note


def test_the_receipt_is_durable_and_the_copy_known_before_the_owner_is_told(
    north: North, south: South, bag: Path
) -> None:
    """Else a worker that dies then has told of a copy that nobody checks, or can name."""
    seen: list[tuple[bool, bool]] = []

    def look(record: ReplicationRecord) -> None:
        if record.stored:
            with reading(south.sessions) as session:
                is_known = session.get(StoredCopy, bag.stem) is not None
            seen.append((south.manifest(item).receipt is not None, is_known))

    item = south.request(north.deposit(bag))
    south.clients["north"] = Overheard(south.clients["north"], told=look)
    assert south.settle(item).status == Status.SUCCESS
    assert seen == [(True, True)]


def spoil_verdict(manifest: dict[str, Any]) -> None:
    manifest["validation"]["valid"] = False


def forget_verdict(manifest: dict[str, Any]) -> None:
    manifest["validation"] = None


@pytest.mark.parametrize("change", [spoil_verdict, forget_verdict])
def test_what_was_not_found_valid_is_not_stored_but_validated(
    north: North, south: South, bag: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    item = south.request(north.deposit(bag))
    south.settle(item, until=lambda row: row.stage == "store")
    with south.sessions.begin() as session:
        row = session.get_one(WorkItem, item)
        manifest = south.manifest(item).model_dump(mode="json")
        change(manifest)
        row.manifest = manifest
    south.run_due()
    back = south.item(item)
    assert (back.stage, is_stored(south, bag)) == ("validate", False), back.note


@pytest.mark.parametrize(
    ("theirs", "status", "why"),
    [
        ({"fixity_value": "0" * 64}, Status.FAILED, "confirmed fixity"),
        ({"fixity_value": None}, Status.PENDING, "has not asked us to store"),
        ({"store_requested": False}, Status.PENDING, "has not asked us to store"),
    ],
)
def test_what_its_owner_has_not_confirmed_is_not_stored(
    north: North, south: South, bag: Path, theirs: dict[str, Any], status: Status, why: str
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    has_changed(north, transfer.replication_id, **theirs)
    south.run_due()
    left = south.item(item)
    assert (left.stage, left.status, is_stored(south, bag)) == ("store", status, False)
    assert why in left.note


@pytest.mark.parametrize(("answer", "status"), [(CANCELLED, Status.CANCELLED), ({"link": "x"}, Status.FAILED)])
def test_an_answer_that_ends_the_transfer_ends_the_item_at_once(
    north: North, south: South, bag: Path, answer: dict[str, Any], status: Status
) -> None:
    """Of the owner that we told our fixity: it confirms it, and wants the bag no more, or another one."""
    item = south.request(north.deposit(bag))
    south.clients["north"] = Overheard(south.clients["north"], heard=lambda record: record.change(**answer))
    assert south.run_due() == [item]
    ended = south.item(item)
    assert (ended.stage, ended.status) == ("copy", status), ended.note
