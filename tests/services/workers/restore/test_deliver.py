"""What lies in the outbound folder while a bag is handed back: only what somebody is to fetch, and always that."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dpn.audit.trail import EventType
from dpn.database import reading
from dpn.errors import PeerUnavailable
from dpn.outbound import withdrawal
from dpn.outbound.folder import Outbound
from dpn.registry.catalogue import TRANSFERS
from dpn.registry.catalogue.rows import save
from dpn.work.items import cancel_item, retry_item
from dpn.work.schedule.sweep import abandon_lost_volumes
from models.work import AuditEvent, StagingVolume, Status, Task, WorkItem
from tests.fixtures.records import a_transfer
from tests.services.workers.fixity.checking import BAG
from tests.services.workers.fixity.cold_stores import SlowFolder
from tests.services.workers.restore.handing_back import LINK, Holder
from workers.pipelines import PIPELINES

OFFERED = [f".bags/{BAG}.tar", f"south/{BAG}.tar"]


class Away:
    """A requester that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any) -> Any:
            raise PeerUnavailable("peer:south", "down")

        return call


def test_cleaning_up_leaves_what_is_offered(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.take_away_offers()
    assert north.offered() == OFFERED
    north.requester.finish(restore)
    north.sync()
    north.take_away_offers()
    assert north.offered() == OFFERED, "its item is still open: it takes the offer away itself"
    north.poll()
    assert north.offered() == []


def test_an_offer_for_a_replication_outlives_the_restore(north: Holder) -> None:
    """North ingested the bag and wants south to keep it; south asks for it back at the same time."""
    transfer = a_transfer(bag=1).model_copy(update={"bag": BAG})
    with north.sessions.begin() as session:
        save(session, TRANSFERS, [transfer])
    Outbound(north.settings.ingest.outbound["main"]).offer(
        shutil.copy(north.tar, north.volume / "tar"), BAG, "south"
    )
    restore = north.requester.ask()
    north.hand_out(restore)
    north.requester.finish(restore)
    north.poll()
    assert north.the_item(restore).status == Status.SUCCESS
    assert north.offered() == OFFERED
    with north.sessions.begin() as session:
        save(session, TRANSFERS, [transfer.model_copy(update={"stored": True})])
    north.take_away_offers()
    assert north.offered() == []


def test_what_is_offered_is_what_was_judged_even_if_a_spoilt_copy_lies_there(north: Holder) -> None:
    spoilt = north.volume / "spoilt.tar"
    spoilt.write_bytes(bytes(north.receipt.size))
    Outbound(north.settings.ingest.outbound["main"]).offer(spoilt, BAG, "east")
    restore = north.requester.ask()
    north.hand_out(restore)
    assert north.offered_to_south().read_bytes() == north.tar.read_bytes()


def test_an_offer_that_disappears_is_put_back(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.offered_to_south().unlink()
    north.poll()
    assert north.offered() == OFFERED


@pytest.mark.parametrize("gone", ["staged", "both"])
def test_a_lost_disk_is_made_good_under_the_same_link(north: Holder, gone: str) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    record = north.requester.record(restore)
    for path in north.staged():
        path.unlink()
    if gone == "both":
        shutil.rmtree(north.outbound)
        north.outbound.mkdir()
    north.poll()
    for _ in range(4):
        north.clock.advance(3600)
        north.run_all()
    assert north.offered() == OFFERED
    assert north.offered_to_south().read_bytes() == north.tar.read_bytes()
    assert north.requester.record(restore).link == record.link == LINK.format(node="south", bag=BAG)
    assert [check.success for check in north.records()] == [True] * (1 if gone == "staged" else 2)
    north.requester.finish(restore)
    north.poll()
    assert north.the_item(restore).status == Status.SUCCESS


def test_a_requester_that_is_away_for_long_is_no_reason_to_worry_until_its_time_is_over(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    clients, north.clients = north.clients, {"south": Away()}
    for _ in range(29):
        north.clock.advance(86_400)
        north.run_all()
        item = north.the_item(restore)
        assert (item.status, item.needs_attention) == (Status.PENDING, False)
        assert north.offered() == OFFERED
    north.clock.advance(2 * 86_400)
    north.run_all()
    assert (north.the_item(restore).status, north.offered()) == (Status.CANCELLED, [])
    north.clients = clients
    north.clock.advance(3600)
    north.run_all()
    assert "not fetched within 30 days" in (north.requester.record(restore).cancel_reason_detail or "")


def test_without_an_outbound_folder_the_operator_is_asked_for_one(north: Holder) -> None:
    north.change("ingest", outbound={})
    restore = north.requester.ask()
    north.hand_out(restore)
    item = north.the_item(restore)
    assert (item.status, item.needs_attention) == (Status.PENDING, True)
    assert "[ingest.outbound.VOLUME]" in item.note
    assert not north.requester.record(restore).accepted
    assert north.staged() == [], "nothing is brought for nobody"


class TestColdStore:
    """A copy that takes hours to come back, as SlowFolder plays it."""

    def test_it_is_restored_once_and_nobody_worries_meanwhile(self, north: Holder) -> None:
        store = SlowFolder(north.store, north.clock)
        north.store = store  # type: ignore[assignment]
        restore = north.requester.ask()
        north.hand_out(restore)
        assert north.requester.record(restore).accepted
        for _ in range(4):
            north.clock.advance(7201)
            north.run_all()
            assert not north.the_item(restore).needs_attention
        assert north.offered() == OFFERED
        assert store.billed == 1

    def test_three_days_of_waiting_are_usual_and_five_are_not(self, north: Holder) -> None:
        store = SlowFolder(north.store, north.clock)
        north.store = store  # type: ignore[assignment]
        restore = north.requester.ask()
        north.hand_out(restore)
        began, worried_after = north.clock.now(), None
        for _ in range(60):
            store.asked_at = north.clock.now()  # it never ends
            north.clock.advance(7201)
            north.run_all()
            if north.the_item(restore).needs_attention:
                worried_after = (north.clock.now() - began).total_seconds() / 86_400
                break
        assert worried_after is not None
        assert 4 <= worried_after < 4.2, "a day, as always, after three that are usual"

    def test_a_requester_that_is_away_does_not_let_what_was_restored_go_cold_again(self, north: Holder) -> None:
        store = SlowFolder(north.store, north.clock)
        north.store = store  # type: ignore[assignment]
        restore = north.requester.ask()
        north.hand_out(restore)
        clients, north.clients = north.clients, {"south": Away()}
        for _ in range(100):
            north.clock.advance(7201)
            north.run_all()
        assert f"{BAG}.tar" in {path.name for path in north.staged()}
        north.clients = clients
        north.clock.advance(7201)
        north.run_all()
        assert north.offered() == OFFERED
        assert store.billed == 1


def test_an_operator_may_cancel_it_and_the_requester_hears_of_it(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    item = north.the_item(restore).id
    with north.sessions.begin() as session:
        cancel_item(session, item, reason="not to them", operator="op", pipelines=PIPELINES, clock=north.clock)
    with north.sessions.begin() as session:
        retry_item(session, item, operator="op", pipelines=PIPELINES, clock=north.clock)
    north.run_all()
    notice = north.item_of(restore, Task.NOTICE)
    assert notice is not None
    assert notice.status == Status.CANCELLED, "withdrawn: the operator thought better of it"
    assert not north.requester.record(restore).cancelled
    with north.sessions.begin() as session:
        cancel_item(session, item, reason="not to them", operator="op", pipelines=PIPELINES, clock=north.clock)
    north.run_all()
    record = north.requester.record(restore)
    assert (record.cancelled, record.cancel_reason, record.cancel_reason_detail) == (True, "reject", "not to them")
    north.take_away_offers()
    north.clean_up()
    assert (north.offered(), north.staged(), north.quarantined()) == ([], [], [])


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_volume_that_no_worker_mounts_is_left(north: Holder, tmp_path: Path, has_folder: bool) -> None:
    """The offer was in that volume's outbound folder. Where this machine has the folder, too, the bag is offered
    there again; else its link leads nowhere for good, and the requester hears of it."""
    restore = north.requester.ask()
    north.hand_out(restore)
    shutil.rmtree(north.outbound)
    ours = north.settings.ingest.outbound["main"]
    (tmp_path / "own").mkdir()
    if has_folder:
        ours.folder.mkdir()
    own = ours.model_copy(update={"folder": tmp_path / "own", "link": "rsync://north.example.org/own/{bag}.tar"})
    with north.sessions.begin() as session:
        item = session.get_one(WorkItem, north.the_item(restore).id)
        session.add(StagingVolume(name="lost", seen_at=north.clock.now() - timedelta(days=1)))
        item.staging_volume = "lost"
        item.manifest = {**item.manifest, "staged": {**item.manifest["staged"], "volume": "lost"}}
    with north.sessions.begin() as session:
        abandon_lost_volumes(
            session,
            after_id=0,
            abandon_after_seconds=60,
            pipelines=PIPELINES,
            worker="test",
            clock=north.clock,
        )
    north.change("ingest", outbound={"main": own, "lost": ours})
    for _ in range(4):
        north.clock.advance(3600)
        north.run_all()
    item, record = north.the_item(restore), north.requester.record(restore)
    if has_folder:
        assert (item.status, record.cancelled) == (Status.PENDING, False)
        assert (ours.folder / "south" / f"{BAG}.tar").read_bytes() == north.tar.read_bytes()
    else:
        assert (item.status, item.needs_attention) == (Status.CANCELLED, False)
        assert "the disk that it was offered on is lost" in (record.cancel_reason_detail or "")
        assert (north.offered(), north.staged()) == ([], [])


def test_an_offer_that_an_operator_renews_has_all_its_time_again(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    clients, north.clients = north.clients, {"south": Away()}
    north.clock.advance(31 * 86_400)
    north.run_all()
    item = north.the_item(restore)
    assert (item.status, north.offered()) == (Status.CANCELLED, [])
    with north.sessions.begin() as session:
        retry_item(session, item.id, operator="op", pipelines=PIPELINES, clock=north.clock)
    north.clients = clients
    for _ in range(20):
        north.clock.advance(86_400)
        north.run_all()
        assert north.the_item(restore).status == Status.PENDING
    assert north.offered() == OFFERED
    assert not north.requester.record(restore).cancelled
    north.clock.advance(13 * 86_400)
    north.run_all()
    assert north.the_item(restore).status == Status.CANCELLED


def test_two_who_find_one_withdrawal_at_once_tell_of_it_once(
    either_north: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one who died before it was told. The second looks while the first is about to tell."""
    north, told, others = either_north, withdrawal._told, []
    north.hand_out(north.requester.ask())
    outbound = Outbound(north.settings.ingest.outbound["main"])
    for entry in outbound.entries_of(BAG, "south"):
        outbound.withdraw(entry)

    def meanwhile(*about: Any) -> set[str]:
        known = told(*about)
        if not others:
            others.append(threading.Thread(target=north.take_away_offers))
            others[0].start()
            others[0].join(0.3)
        return known

    monkeypatch.setattr(withdrawal, "_told", meanwhile)
    north.take_away_offers()
    others[0].join()
    with reading(north.sessions) as session:
        tellings = select(AuditEvent.detail).where(AuditEvent.event_type == EventType.DELETION)
        ids = [detail["withdrawal"] for detail in session.scalars(tellings)]
    assert len(ids) == len(set(ids)) == 2
    assert north.offered() == []
