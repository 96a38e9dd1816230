"""What is not handed out is declined in words, told until it was heard, and costs nothing; nobody gets all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import func, select, update

from dpn.database import reading
from dpn.errors import PeerUnavailable
from dpn.registry.catalogue import BAGS, NODES, find
from dpn.registry.catalogue.rows import save
from dpn.registry.rules.flags import CancelReason
from models.preservation import StoredCopy
from models.registry import Node, RestoreTransfer
from models.work import Status, Task, WorkItem
from tests.fixtures.made_bags import UUID
from tests.fixtures.records import a_bag, uuid
from tests.services.workers.restore.handing_back import Holder
from workers.cancellations import TransferCancellation, owe_notice
from workers.pipelines import PIPELINES
from workers.restore.items import BATCH

OTHER_BAG = uuid(77)


def declined(north: Holder, restore: str) -> str:
    """What the requester read."""
    record = north.requester.record(restore)
    assert (record.cancelled, record.cancel_reason, record.accepted) == (True, "reject", False)
    return record.cancel_reason_detail or ""


def keep_also(north: Holder, *bags: str) -> None:
    """North keeps copies of these bags, too: of the same bytes, which nobody reads here."""
    with reading(north.sessions) as session:
        copy = session.get_one(StoredCopy, UUID)
        values = {column.key: getattr(copy, column.key) for column in StoredCopy.__table__.columns}
    records = [a_bag(uuid=bag, first_version_uuid=bag, local_id=f"thing {bag}") for bag in bags]
    with north.sessions.begin() as session:
        save(session, BAGS, records)
        session.add_all(StoredCopy(**{**values, "bag": bag}) for bag in bags)
    with north.requester.registry.sessions.begin() as session:
        save(session, BAGS, records)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"refuse": ("south",)}, "do not hand bags to this node"),
        ({"max_bytes": 10}, "we hand out no more than 10"),
    ],
)
def test_what_the_settings_forbid_is_declined(north: Holder, settings: Mapping[str, Any], words: str) -> None:
    north.change("restore", **settings)
    restore = north.requester.ask()
    assert north.cron().restores_declined == 1
    north.run_all()
    assert words in declined(north, restore)
    assert north.item_of(restore) is None
    assert (north.offered(), north.staged(), north.records()) == ([], [], [])
    assert north.cron().restores_declined == 0, "once is enough"


def test_a_bag_that_we_have_no_copy_of_is_declined(north: Holder) -> None:
    other = a_bag(uuid=OTHER_BAG, first_version_uuid=OTHER_BAG, local_id="not ours")
    for sessions in (north.sessions, north.requester.registry.sessions):
        with sessions.begin() as session:
            save(session, BAGS, [other])
    restore = north.requester.ask(bag=OTHER_BAG)
    assert north.cron().restores_declined == 1
    north.run_all()
    assert "no copy of this bag" in declined(north, restore)


@pytest.mark.parametrize(("agreed", "is_declined"), [((), False), (("south",), False), (("east",), True)])
def test_agreements_count_where_there_are_any(north: Holder, agreed: tuple[str, ...], is_declined: bool) -> None:
    with north.sessions.begin() as session:
        ours = find(session, NODES, "north")
        assert ours is not None
        session.execute(update(Node).where(Node.namespace == "north").values(restore_to=list(agreed)))
    restore = north.requester.ask()
    assert north.cron().restores_declined == is_declined
    north.run_all()
    assert north.requester.record(restore).accepted is not is_declined
    if is_declined:
        assert "no agreement" in declined(north, restore)


def test_a_way_that_we_do_not_offer_is_declined(north: Holder) -> None:
    restore = north.requester.ask()
    north.requester.tamper(restore, protocol="carrier-pigeon")
    north.cron()
    north.run_all()
    assert "by rsync only" in declined(north, restore)


def test_a_requester_that_is_away_hears_of_it_when_it_is_back(north: Holder) -> None:
    north.change("restore", refuse=("south",))
    restore = north.requester.ask()
    north.cron()

    class Away:
        def __getattr__(self, name: str) -> Any:
            def call(*_: Any) -> Any:
                raise PeerUnavailable("peer:south", "down")

            return call

    clients, north.clients = north.clients, {"south": Away()}
    for _ in range(30):
        north.run_all()
        north.clock.advance(3600)
    assert not north.requester.record(restore).cancelled
    north.clients = clients
    north.run_all()
    assert declined(north, restore)


def test_a_request_of_a_node_that_the_settings_do_not_name_is_told_to_the_operator(north: Holder) -> None:
    north.requester.ask()
    north.sync()
    north.settings = north.settings.model_copy(update={"peers": {}})
    result = north.queue()
    assert (result.unknown_peers, result.ok, result.created) == ({"south": 1}, False, 0)


def test_what_is_asked_again_and_again_is_brought_once_at_a_time(either_north: Holder) -> None:
    north, south = either_north, either_north.requester
    south.repeat(south.ask(), 60)
    assert north.cron().created == 1
    assert north.queue().created == 0
    north.run_all()
    with reading(north.sessions) as session:
        restore = session.scalars(select(WorkItem.identifier).where(WorkItem.task == Task.RESTORE)).one()
    south.finish(restore)
    north.poll()
    assert north.the_item(restore).status == Status.SUCCESS
    assert north.cron().created == 1, "the next one, once the first has ended"


def test_a_node_that_asks_for_everything_gets_some_at_a_time(either_north: Holder) -> None:
    north, south = either_north, either_north.requester
    north.change("restore", max_open_per_node=3)
    bags = [uuid(0x8000 + number) for number in range(70)]
    keep_also(north, *bags)
    restores = [south.ask(bag=bag) for bag in bags]
    assert north.cron().created == 3
    assert north.queue().created == 0
    with reading(north.sessions) as session:
        begun = session.scalars(select(WorkItem.identifier).where(WorkItem.task == Task.RESTORE)).all()
        assert session.scalar(select(func.count()).select_from(RestoreTransfer)) == 70
    assert set(begun) <= set(restores)
    for restore in begun[:2]:
        south.cancel(restore)
    result = north.cron()
    assert (result.closed, result.created) == (2, 2)


def test_what_was_asked_first_is_brought_first_whatever_its_id(either_north: Holder) -> None:
    north, south = either_north, either_north.requester
    north.change("restore", max_open_per_node=1)
    bags = [uuid(0x8000 + number) for number in range(60)]
    keep_also(north, *bags)
    restores = []
    for number, bag in enumerate(bags):
        restores.append(south.ask(uuid(0x9000 - number // 2 * 2 + number % 2), bag=bag))
        north.clock.advance(number % 2)
    north.sync()
    for restore in restores[:4]:
        assert north.queue().created == 1
        assert north.item_of(restore) is not None
        with north.sessions.begin() as session:
            session.execute(update(WorkItem).where(WorkItem.identifier == restore).values(status="success"))


def test_a_batch_of_requests_follows_on_the_last_one(either_north: Holder) -> None:
    north, south = either_north, either_north.requester
    north.change("restore", max_open_per_node=200)
    bags = [uuid(0x8000 + number) for number in range(2 * BATCH + 1)]
    keep_also(north, *bags)
    for number, bag in enumerate(bags):
        south.ask(uuid(0x9000 - number), bag=bag)
        north.clock.advance(number % 3 == 0)
    assert north.cron().created == len(bags)


def test_a_request_with_the_id_of_a_replication_is_told_for_itself(north: Holder) -> None:
    """Whoever makes a transfer chooses its id: a restore's news must not be taken for a replication's."""
    restore = north.requester.ask()
    with north.sessions.begin() as session:
        owe_notice(
            session,
            TransferCancellation(CancelReason.OTHER, "of the replication"),
            task=Task.REPLICATION,
            transfer_id=restore,
            peer="south",
            item_id=1,
            pipelines=PIPELINES,
            clock=north.clock,
        )
    north.change("restore", refuse=("south",))
    north.cron()
    north.run_all()
    assert "do not hand bags" in declined(north, restore)
