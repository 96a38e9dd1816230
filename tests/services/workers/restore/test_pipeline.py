"""A bag that is asked back is accepted, read, judged, offered, fetched, withdrawn; and how it may end instead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dpn.audit.trail import EventType
from dpn.cancellation import Cancellation
from dpn.recovery.arrival import receive
from dpn.transfer.settings import RsyncSource, TransferSettings
from models.work import Status, Task
from tests.conftest import Services
from tests.services.workers.fixity.checking import BAG, MISFORTUNES, damage
from tests.services.workers.restore.handing_back import LINK, Holder, holder_and_requester

OFFERED = [f".bags/{BAG}.tar", f"south/{BAG}.tar"]


def test_a_bag_that_is_asked_back_is_offered_proven_and_withdrawn_once_it_was_fetched(
    either_north: Holder,
) -> None:
    north, south = either_north, either_north.requester
    restore = south.ask()
    assert north.cron().created == 1
    north.run_all()
    record = south.record(restore)
    assert (record.accepted, record.link) == (True, LINK.format(node="south", bag=BAG))
    assert north.offered() == OFFERED
    assert north.offered_to_south().read_bytes() == north.tar.read_bytes()
    item = north.the_item(restore)
    assert (item.status, item.stage, item.needs_attention) == (Status.PENDING, "deliver", False)
    south.finish(restore)
    north.poll()
    item = north.the_item(restore)
    assert (item.status, item.note) == (Status.SUCCESS, "south has the bag")
    assert (north.offered(), north.staged(), north.reservations(), north.quarantined()) == ([], [], 0, [])
    ours = north.our_record(restore)
    assert ours is not None
    assert ours.finished, "our registry knows, too"
    said = [event.outcome for event in north.events(item.id, EventType.DISSEMINATION)]
    assert said == ["offered", "success"]


def test_reading_a_bag_for_another_node_is_a_check_of_ours(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    (check,) = north.records()
    assert (check.bag, check.node, check.success) == (BAG, "north", True)
    assert check.fixity_check_id == north.restore_manifest(restore).check_id != restore
    assert (north.copy().outcome, north.copy().checked_at) == ("good", north.restore_manifest(restore).began_at)


def test_the_requester_knows_before_the_bag_is_brought(north: Holder) -> None:
    restore = north.requester.ask()
    north.cron()
    north.run_due()
    assert north.requester.record(restore).accepted
    assert north.requester.record(restore).link is None
    assert not north.staged()


def test_what_is_fetched_over_rsync_is_the_bag(services: Services, tmp_path: Path) -> None:
    daemon = services.up("rsyncd")
    link = f"rsync://{daemon['host']}:{daemon['port']}/outbound/{{node}}/{{bag}}.tar"
    with holder_and_requester(tmp_path, outbound=Path(daemon["modules"]["outbound"]), link=link) as north:
        restore = north.requester.ask()
        north.hand_out(restore)
        source = RsyncSource(mode="daemon", hosts=(daemon["host"],), port=daemon["port"])
        record, target = north.requester.record(restore), tmp_path / f"{BAG}.tar"
        receive(
            record,
            target,
            source=source,
            transfer=TransferSettings(),
            size=north.receipt.size,
            cancellation=Cancellation(),
        )
        assert target.read_bytes() == north.tar.read_bytes()
        north.requester.finish(restore)
        north.poll()
        assert not north.offered_to_south().exists()


@pytest.mark.parametrize("how", MISFORTUNES)
def test_a_copy_that_is_not_good_is_not_handed_out_and_the_requester_hears_why(north: Holder, how: str) -> None:
    stored = Path(north.receipt.url.removeprefix("file://"))
    content = damage(stored.read_bytes(), how)
    stored.unlink()
    if content is not None:
        stored.write_bytes(content)
    restore = north.requester.ask()
    item = north.hand_out(restore)
    assert (item.status, item.needs_attention) == (Status.FAILED, True)
    record = north.requester.record(restore)
    assert (record.cancelled, record.cancel_reason, record.link) == (True, "other", None)
    assert "did not pass its fixity check" in (record.cancel_reason_detail or "")
    assert [check.success for check in north.records()] == [False]
    assert north.offered() == []


def test_a_request_that_is_cancelled_is_given_up_wherever_it_stands(north: Holder) -> None:
    south = north.requester
    for rounds in range(5):
        restore = south.ask()
        north.cron()
        for _ in range(rounds):
            north.run_due()
        south.cancel(restore)
        north.clock.advance(north.settings.work.verdict_poll_seconds + 1)
        north.run_all()
        item = north.the_item(restore)
        assert (item.status, item.needs_attention) == (Status.CANCELLED, False), rounds
        assert "no longer needed" in item.note
        assert (north.offered(), north.staged(), north.reservations(), north.quarantined()) == ([], [], 0, [])
        assert north.item_of(restore, Task.NOTICE) is None, "the requester need not be told what it told us"


def test_a_bag_that_nobody_fetches_is_withdrawn_and_the_requester_is_told(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    days = north.settings.restore.keep_offered_days
    north.clock.advance(timedelta(days=days, seconds=-60).total_seconds())
    north.run_all()
    item = north.the_item(restore)
    assert (item.status, item.needs_attention) == (Status.PENDING, False), "so long, nothing is wrong"
    assert north.offered() == OFFERED
    north.poll()
    item = north.the_item(restore)
    assert (item.status, item.needs_attention) == (Status.CANCELLED, False)
    record = north.requester.record(restore)
    assert (record.cancelled, record.cancel_reason) == (True, "other")
    assert "not fetched within 30 days" in (record.cancel_reason_detail or "")
    assert (north.offered(), north.staged(), north.quarantined()) == ([], [], [])
