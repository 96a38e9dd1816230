"""Restores asked of us get to their ends whatever was lost on either side, and nobody touches another's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete

from dpn.database import insert_missing, reading
from dpn.registry.catalogue import RESTORES
from dpn.registry.catalogue.rows import save
from dpn.work.items import new_item
from models.manifests import ReplicationManifest
from models.registry import RestoreTransfer
from models.work import Status, Task, WorkItem
from tests.fixtures.records import uuid
from tests.services.workers.fixity.checking import BAG
from tests.services.workers.restore.handing_back import Holder
from workers.pipelines import PIPELINES


def test_a_request_that_no_sync_brought_becomes_an_item(either_north: Holder) -> None:
    north = either_north
    restore = north.requester.ask()
    assert north.reconcile().items_missing == 1
    assert north.queue().created == 1
    assert north.reconcile().items_missing == 0
    assert north.the_item(restore).status == Status.PENDING


def test_an_item_that_was_lost_is_made_again(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    with north.sessions.begin() as session:
        session.execute(delete(WorkItem).where(WorkItem.task == Task.RESTORE))
    assert north.reconcile().items_missing == 1
    assert north.queue().created == 1
    north.run_all()
    item = north.the_item(restore)
    assert (item.status, item.stage) == (Status.PENDING, "deliver"), "the link that it finds is one of ours"
    north.requester.finish(restore)
    north.poll()
    assert (north.the_item(restore).status, north.offered()) == (Status.SUCCESS, [])


@pytest.mark.parametrize(("end", "status"), [("finish", Status.SUCCESS), ("cancel", Status.CANCELLED)])
@pytest.mark.parametrize("by", ["reconciliation", "dpn_queue"])
def test_an_item_whose_request_has_ended_is_closed(
    either_north: Holder, end: str, status: Status, by: str
) -> None:
    north = either_north
    restore = north.requester.ask()
    north.hand_out(restore)
    getattr(north.requester, end)(restore)
    closed = north.reconcile().closed if by == "reconciliation" else north.cron().closed
    assert closed == 1
    item = north.the_item(restore)
    assert (item.status, item.needs_attention, item.staging_volume) == (status, False, None)
    assert north.reconcile().closed == 0
    north.take_away_offers()
    north.clean_up()
    assert (north.offered(), north.staged(), north.reservations(), north.quarantined()) == ([], [], 0, [])


def test_what_a_live_worker_holds_is_not_touched(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    with north.sessions.begin() as session:
        item = session.get_one(WorkItem, north.the_item(restore).id)
        item.status, item.lease_expires_at = Status.RUNNING, north.clock.now() + timedelta(seconds=60)
    north.requester.cancel(restore)
    assert (north.reconcile().closed, north.cron().closed) == (0, 0)
    north.clock.advance(61)
    assert north.queue().closed == 1


def test_a_requester_that_forgot_what_we_declined_is_told_again(either_north: Holder) -> None:
    north = either_north
    north.change("restore", refuse=("south",))
    restore = north.requester.ask()
    north.cron()
    assert north.reconcile().told == 0, "it is under way"
    north.run_all()
    north.requester.tamper(restore, cancelled=False, cancel_reason=None, cancel_reason_detail=None)
    assert north.reconcile().told == 1
    north.run_all()
    record = north.requester.record(restore)
    assert (record.cancelled, record.cancel_reason) == (True, "reject")
    assert "do not hand bags" in (record.cancel_reason_detail or "")


def test_a_requester_that_forgot_what_we_gave_up_is_told_again(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.clock.advance(31 * 86_400)
    north.run_all()
    assert north.requester.record(restore).cancelled
    north.requester.tamper(restore, cancelled=False, cancel_reason=None, cancel_reason_detail=None)
    assert north.reconcile().told == 1
    north.run_all()
    assert "not fetched within 30 days" in (north.requester.record(restore).cancel_reason_detail or "")


def test_a_request_that_its_owner_does_not_know_is_reported_and_left_alone(north: Holder) -> None:
    restore = north.requester.ask()
    north.cron()
    with north.requester.registry.sessions.begin() as session:
        session.execute(delete(RestoreTransfer))
    result = north.reconcile()
    assert result.reports == [f"restore unknown to its owner: {restore}"]
    assert north.the_item(restore).status == Status.PENDING


def test_a_peer_cannot_move_another_peers_items_by_taking_their_ids(north: Holder) -> None:
    """South shows a request with the id of east's, and one with the id of a replication from east: both over."""
    theirs, copy = uuid(0xE1), uuid(0xE2)
    restore = north.requester.ask(theirs)
    rows = [
        new_item(
            task=task,
            identifier=identifier,
            remote_node="east",
            note="as it was",
            manifest=ReplicationManifest().model_dump(mode="json"),
            pipelines=PIPELINES,
            clock=north.clock,
        )
        for task, identifier in ((Task.RESTORE, restore), (Task.REPLICATION, copy))
    ]
    record = north.requester.record(restore)
    with north.sessions.begin() as session:
        insert_missing(session, WorkItem, rows)
        save(session, RESTORES, [record])
    north.requester.cancel(restore)
    north.requester.repeat(restore, 1)
    north.reconcile()
    north.queue()
    with reading(north.sessions) as session:
        for item in session.query(WorkItem).filter(WorkItem.remote_node == "east"):
            assert (item.status, item.note) == (Status.PENDING, "as it was")
    assert BAG not in "".join(north.offered())
