"""A copy of ours that is found bad is repaired from another node, whatever happened to it; the trail tells how."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete, event

from dpn.audit.trail import EventType
from dpn.bags.identity import tag_manifest_sha256
from dpn.database import reading
from dpn.fixity.begin import begin_check, begin_checks, repair_under_way
from dpn.fixity.repairs import check_after
from dpn.fixity.settings import FixitySettings
from dpn.recovery.requests import give_up
from dpn.storage.folder.store import FolderStore
from dpn.work.items import NotAllowed, cancel_item, retry_item
from models.preservation import StoredCopy
from models.work import WorkItem
from tests.conftest import Services
from tests.fixtures.made_bags import END, bag_files, checksums, members, tar_bag
from tests.services.workers.fixity.checking import BAG, KEY, MISFORTUNES, damage
from tests.services.workers.recovery.repair_bench import ANSWER_DAYS, DAY, POLL_SECONDS, RepairBench, repair_bench
from workers.pipelines import PIPELINES
from workers.recovery.requests import LATE_DAYS, MOST_ASKED_AT_ONCE
from workers.recovery.withdraw import withdraw_leftover_requests


@pytest.mark.parametrize("how", MISFORTUNES)
def test_whatever_happened_to_our_copy_another_nodes_takes_its_place_and_is_checked(
    north: RepairBench, how: str
) -> None:
    north.spoil(how)
    found = north.find_bad()
    asking = north.repair()
    assert (asking.identifier, asking.stage, asking.status) == (found.identifier, "ask", "pending")
    assert f"Repair: item {asking.id}" in found.note
    assert not found.needs_attention, "the repair sees to it"
    assert "asked south" in asking.note
    north.holders["south"].offer()
    north.go_on()
    north.expect_repaired()
    assert north.requests()["south"].finished
    assert "west" not in north.requests()
    assert [check.success for check in sorted(north.records(), key=lambda c: c.created_at)] == [False, True]
    check = north.last_check()
    assert check.identifier == check_after(found.identifier)
    recorded = {record.fixity_check_id for record in north.records()}
    assert recorded == {found.identifier, north.manifest(check.id).check_id}
    assert check.identifier not in recorded, "who knows the first check could have taken that id for its own"


def test_a_curator_can_read_the_whole_story(north: RepairBench) -> None:
    north.spoil("bit flip in the payload")
    north.find_bad()
    north.holders["south"].decline()
    north.go_on()
    north.holders["west"].offer()
    north.go_on()
    north.expect_repaired()
    assert north.story() == [
        ("item created", "pending"),
        ("fixity check", "failure"),
        ("copy requested", "pending"),
        ("copy requested", "failure"),
        ("copy requested", "pending"),
        ("transfer", "success"),
        ("validation", "success"),
        ("copy replaced", "success"),
        ("item created", "pending"),
        ("copy requested", "success"),
        ("fixity check", "success"),
    ]
    replaced = north.event(EventType.COPY_REPLACED).detail
    assert (replaced["source"], replaced["sha256"]) == ("west", north.receipt.sha256)
    assert "data/a.txt" in replaced["found"]
    assert replaced["before"]["size"] == north.receipt.size


def test_repairs_are_made_on_postgresql_too(tmp_path: Path, migrated_url: str, services: Services) -> None:
    with repair_bench(tmp_path, services.up("rsyncd"), database_url=migrated_url) as north:
        north.spoil("bit flip in the tag manifest")
        north.find_bad()
        north.holders["south"].decline()
        north.go_on()
        north.holders["west"].offer()
        north.go_on()
        north.expect_repaired()


class TestWhoIsAsked:
    def test_a_node_that_declines_is_followed_by_the_next(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        north.holders["south"].decline("no agreement")
        item = north.go_on()
        assert "asked west" in item.note
        north.holders["west"].offer()
        north.go_on()
        north.expect_repaired()
        assert "no agreement" in (north.recovery().asked[0].ended or "")

    def test_a_node_that_never_answers_is_told_that_it_need_not_any_more(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        north.clock.advance(ANSWER_DAYS * DAY - 2 * POLL_SECONDS)
        item = north.go_on()
        assert "asked south" in item.note
        assert not item.needs_attention, "so long is normal"
        item = north.go_on()
        assert "asked west" in item.note
        south = north.requests()["south"]
        assert (south.cancelled, south.cancel_reason) == (True, "other")
        assert "no answer in 7 days" in (south.cancel_reason_detail or "")

    def test_a_node_that_accepts_and_then_does_nothing_is_not_waited_for_for_ever(
        self, north: RepairBench
    ) -> None:
        north.spoil("truncated")
        north.find_bad()
        north.holders["south"].accept()
        assert "south has accepted and prepares it" in north.go_on().note
        north.clock.advance(ANSWER_DAYS * DAY)
        assert "asked west" in north.go_on().note
        assert "it accepted on" in (north.requests()["south"].cancel_reason_detail or "")

    @pytest.mark.parametrize("first", ["south", "west"])
    def test_while_a_node_is_late_another_is_asked_and_whoever_offers_first_gives_the_bag(
        self, north: RepairBench, first: str
    ) -> None:
        north.spoil("truncated")
        north.find_bad()
        assert north.holders["west"].asked() is None
        north.clock.advance(LATE_DAYS * DAY)
        item = north.go_on()
        assert ("asked south" in item.note, "asked west" in item.note) == (True, True), item.note
        north.holders[first].offer()
        north.go_on()
        north.expect_repaired()
        ends = {name: (one.finished, one.cancelled) for name, one in north.requests().items()}
        assert ends.pop(first) == (True, False)
        assert list(ends.values()) == [(False, True)], "it need not give the bag any more"

    def test_a_late_node_gives_the_bag_where_what_another_gave_was_bad(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        north.clock.advance(LATE_DAYS * DAY)
        north.go_on()
        north.holders["west"].offer(b"nonsense")
        assert "asked south" in north.try_until_it_waits().note
        north.holders["south"].offer()
        north.go_on()
        north.expect_repaired()

    def test_a_node_that_has_many_requests_of_ours_to_answer_is_not_asked_before_it_has(
        self, north: RepairBench
    ) -> None:
        others = north.ask_for_others("west", MOST_ASKED_AT_ONCE)
        north.begin_drill("west")
        north.run_due()
        north.clock.advance(ANSWER_DAYS * DAY)
        item = north.go_on()
        assert item.note == "waits until west has answered other requests of ours"
        assert (item.status, north.recovery().asked) == ("pending", [])
        with north.sessions.begin() as session:
            give_up(
                session, others[0].restore_id, us="north", reason_detail="came otherwise", now=north.clock.now()
            )
        item = north.go_on()
        assert "west has not answered yet" in item.note, "its time begins when it is asked"

    def test_a_node_that_has_no_room_is_left_out_while_another_has(self, north: RepairBench) -> None:
        north.ask_for_others("south", MOST_ASKED_AT_ONCE)
        north.spoil("truncated")
        north.find_bad()
        assert "asked west" in north.repair().note
        north.holders["west"].decline()
        assert north.go_on().note == "waits until south has answered other requests of ours"

    def test_where_nobody_has_a_good_copy_every_answer_is_told_and_ours_stays(self, north: RepairBench) -> None:
        north.spoil("truncated")
        spoilt = north.path.read_bytes()
        north.find_bad()
        north.holders["south"].decline("our copy is bad, too")
        north.go_on()
        north.holders["west"].offer(b"nonsense")
        item = north.try_until_it_waits()
        assert (item.status, item.needs_attention) == ("failed", True)
        assert "south: declined (reject: our copy is bad, too)" in item.note
        assert "west: what it gave us is not the bag" in item.note
        assert "Our copy stays as it is" in item.note
        assert north.path.read_bytes() == spoilt
        assert north.copy().outcome == "bad"
        assert all(record.cancelled for record in north.requests().values())

    def test_after_a_retry_by_an_operator_all_are_asked_again(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        for name in ("south", "west"):
            north.holders[name].decline()
            item = north.go_on()
        assert item.status == "failed"
        with north.sessions.begin() as session:
            retry_item(session, item.id, operator="me", pipelines=PIPELINES, clock=north.clock)
        assert "asked south" in north.go_on().note
        north.holders["south"].offer()
        north.go_on()
        north.expect_repaired()

    def test_preferred_nodes_are_asked_first(self, north: RepairBench) -> None:
        recovery = north.settings.recovery.model_copy(update={"prefer": ("west",)})
        north.settings = north.settings.model_copy(update={"recovery": recovery})
        north.spoil("truncated")
        north.find_bad()
        assert "asked west" in north.repair().note

    def test_a_bag_that_no_peer_keeps_calls_for_a_person_at_once(
        self, tmp_path: Path, sqlite_url: str, services: Services
    ) -> None:
        with repair_bench(tmp_path, services.up("rsyncd"), database_url=sqlite_url, holders=()) as north:
            north.spoil("truncated")
            north.find_bad()
            item = north.repair()
            assert (item.status, item.needs_attention) == ("failed", True)
            assert "our registry names no peer that keeps a copy" in item.note


class TestWhenARepairIsCancelled:
    def test_its_request_is_withdrawn_by_the_next_queue_run(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        with north.sessions.begin() as session:
            item = north.repair().id
            cancel_item(session, item, reason="enough", operator="me", pipelines=PIPELINES, clock=north.clock)
        assert not north.requests()["south"].cancelled
        for expected in (1, 0):
            assert withdraw_leftover_requests(north.sessions, node="north", clock=north.clock) == expected
        south = north.requests()["south"]
        assert south.cancelled
        assert "no longer wanted: cancelled by me: enough" in (south.cancel_reason_detail or "")

    def test_what_is_under_way_is_not_withdrawn(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        assert withdraw_leftover_requests(north.sessions, node="north", clock=north.clock) == 0
        assert not north.requests()["south"].cancelled


class TestWhoseFaultItIs:
    @pytest.mark.parametrize("how", [how for how in MISFORTUNES if how != "deleted"])
    def test_what_is_not_the_bag_is_put_aside_and_the_next_node_is_asked(
        self, north: RepairBench, how: str
    ) -> None:
        good = north.tar.read_bytes()
        north.spoil("deleted")
        north.find_bad()
        content = damage(good, how)
        assert content is not None
        north.holders["south"].offer(content)
        item = north.try_until_it_waits()
        assert "asked west" in item.note
        assert not north.path.exists(), "nothing that is not the bag gets into the store"
        assert [path.read_bytes() for path in north.quarantined()] == [content]
        assert "is not the bag" in (north.requests()["south"].cancel_reason_detail or "")
        north.holders["west"].offer()
        north.try_until_it_waits()
        north.expect_repaired()

    def test_another_bag_is_not_taken_for_this_one(self, north: RepairBench, tmp_path: Path) -> None:
        other = tar_bag(tmp_path, bag_files(uuid=str(uuid4())))
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer(other.read_bytes())
        assert "asked west" in north.try_until_it_waits().note
        assert not north.path.exists()

    def test_a_valid_bag_with_the_right_digest_and_another_payload_is_not_taken(
        self, tmp_path: Path, sqlite_url: str, services: Services
    ) -> None:
        """A tag manifest that leaves the payload's manifest out says nothing of the payload."""

        def loose(payload: dict[str, bytes]) -> dict[str, bytes]:
            files = bag_files(payload)
            tags = {name: files[name] for name in ("bagit.txt", "bag-info.txt", "dpn-tags/dpn-info.txt")}
            return {**files, "tagmanifest-sha256.txt": checksums(tags, "sha256")}

        daemon = services.up("rsyncd")
        with repair_bench(
            tmp_path, daemon, database_url=sqlite_url, files=loose({"data/a.txt": b"first\n"})
        ) as north:
            (tmp_path / "evil").mkdir()
            evil = tar_bag(tmp_path / "evil", loose({"data/a.txt": b"worst\n"}))
            assert tag_manifest_sha256(evil, BAG) == north.digest
            assert evil.stat().st_size == north.tar.stat().st_size
            north.spoil("deleted")
            north.find_bad()
            north.holders["south"].offer(evil.read_bytes())
            assert "asked west" in north.try_until_it_waits().note
            assert "what we had stored has" in (north.recovery().asked[0].ended or "")
            assert not north.path.exists()

    def test_a_tar_that_its_holder_packed_anew_repairs_ours_with_a_receipt_of_its_own(
        self, north: RepairBench, tmp_path: Path
    ) -> None:
        before = north.receipt
        (tmp_path / "anew").mkdir()
        anew = tar_bag(tmp_path / "anew", dict(reversed(bag_files().items())), end=bytes(20 * 512))
        assert tag_manifest_sha256(anew, BAG) == north.digest
        sha256 = hashlib.sha256(anew.read_bytes()).hexdigest()
        assert sha256 != before.sha256
        north.spoil("bit flip in the payload")
        north.find_bad()
        north.holders["south"].offer(anew.read_bytes())
        assert north.go_on().status == "success"
        assert b"".join(north.store.read(KEY)) == anew.read_bytes()
        receipt = north.recovery().receipt
        assert receipt is not None
        assert (receipt.sha256, receipt.size) == (sha256, anew.stat().st_size)
        copy = north.copy()
        assert (copy.sha256, copy.size, copy.outcome) == (sha256, anew.stat().st_size, "good")
        assert north.last_check().status == "success", north.last_check().note
        told = north.event(EventType.COPY_REPLACED).detail
        assert (told["sha256_before"], told["sha256"]) == (before.sha256, sha256)
        assert f"packed anew: SHA-256 {sha256}, before {before.sha256}" in north.repair().note

    def test_a_copy_that_is_good_again_stays_though_another_tar_of_the_bag_came(
        self, north: RepairBench, tmp_path: Path
    ) -> None:
        north.spoil("deleted")
        north.find_bad()
        (tmp_path / "anew").mkdir()
        anew = tar_bag(tmp_path / "anew", dict(reversed(bag_files().items())))
        north.path.write_bytes(north.tar.read_bytes())
        north.holders["south"].offer(anew.read_bytes())
        north.go_on()
        north.expect_repaired()
        assert "was good when it was to be replaced" in north.repair().note

    def test_another_tar_with_a_file_that_its_tag_manifest_does_not_prove_is_not_taken(
        self, north: RepairBench, tmp_path: Path
    ) -> None:
        (tmp_path / "more").mkdir()
        more = tar_bag(tmp_path / "more", {**bag_files(), "dpn-tags/added.txt": b"said by nobody\n"})
        assert tag_manifest_sha256(more, BAG) == north.digest
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer(more.read_bytes())
        assert "asked west" in north.try_until_it_waits().note
        assert "does not prove that all in it is the same" in (north.recovery().asked[0].ended or "")
        assert not north.path.exists()

    def test_a_file_without_end_is_not_fetched(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer(north.tar.read_bytes() + bytes(50_000_000))
        item = north.try_until_it_waits()
        assert "asked west" in item.note
        assert "bytes, at most" in (north.recovery().asked[0].ended or "")

    def test_a_link_that_leads_elsewhere_is_not_followed(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer(link=f"rsync://elsewhere.example.org/outbound/{KEY}")
        assert "asked west" in north.try_until_it_waits().note
        assert "link-host-not-allowed" in (north.recovery().asked[0].ended or "")

    def test_a_file_that_is_not_where_the_link_says_is_tried_some_times(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        south = north.holders["south"]
        south.offer(link=f"{south.link}/nowhere/{KEY}")
        item = north.try_until_it_waits()
        assert "asked west" in item.note
        assert "(3 times)" in (north.recovery().asked[0].ended or "")

    def test_an_offer_that_is_taken_back_is_followed_by_the_next_node(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer()
        north.clock.advance(POLL_SECONDS + 1)
        north.run_due()
        assert north.repair().stage == "fetch"
        north.holders["south"].decline("not any more")
        assert "asked west" in north.try_until_it_waits().note

    def test_an_offer_that_is_taken_back_once_we_have_the_bag_does_no_harm(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer()
        north.clock.advance(POLL_SECONDS + 1)
        while north.repair().stage != "settle":
            assert north.run_due()
        north.holders["south"].decline("too late")
        north.go_on()
        north.expect_repaired()
        assert "cannot be finished" in north.event(EventType.COPY_REQUESTED).detail["why"]

    def test_a_node_that_is_away_is_waited_for_but_not_for_ever(self, north: RepairBench) -> None:
        peers = dict(north.settings.peers)
        away = peers["south"].rsync.model_copy(update={"port": 9})
        peers["south"] = peers["south"].model_copy(update={"rsync": away})
        north.settings = north.settings.model_copy(update={"peers": peers})
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer(
            link=north.holders["south"].link.replace(f":{_port(north)}/", ":9/") + f"/{KEY}"
        )
        item = north.go_on()
        assert (item.stage, item.status) == ("fetch", "pending")
        assert "rsync:south is unavailable" in item.note
        north.clock.advance(ANSWER_DAYS * DAY)
        assert "asked west" in north.try_until_it_waits().note
        assert "could not be fetched in 7 days" in (north.recovery().asked[0].ended or "")


def _port(north: RepairBench) -> str:
    return north.holders["south"].link.split("/")[2].rpartition(":")[2]


class TestWhatIsReplaced:
    def test_a_copy_that_is_good_again_stays_as_it_is(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        north.path.unlink()
        north.path.write_bytes(north.tar.read_bytes())
        before = north.path.stat().st_ino
        north.holders["south"].offer()
        item = north.go_on()
        assert item.status == "success"
        assert "was good when it was to be replaced, and stays" in item.note
        assert north.path.stat().st_ino == before
        assert north.event(EventType.COPY_REPLACED).outcome == "not needed"
        assert north.copy().outcome == "good"
        assert north.last_check().status == "success"

    def test_what_somebody_put_there_while_we_replaced_is_not_overwritten(
        self, north: RepairBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        north.spoil("truncated")
        north.find_bad()
        north.holders["south"].offer()
        replace, calls = FolderStore.replace, []

        def overtaken(store: FolderStore, *arguments: Any, **more: Any) -> Any:
            if not calls:
                calls.append(1)
                north.path.unlink()
                north.path.write_bytes(b"another's")
            return replace(store, *arguments, **more)

        monkeypatch.setattr(FolderStore, "replace", overtaken)
        item = north.go_on()
        assert (item.stage, item.status) == ("settle", "pending")
        assert "is not the object that was found bad" in item.note
        assert north.path.read_bytes() == b"another's"

    def test_a_store_that_is_not_mounted_gets_nothing(self, north: RepairBench) -> None:
        north.spoil("deleted")
        north.find_bad()
        north.holders["south"].offer()
        folder = north.path.parent
        folder.rename(folder.with_name("unmounted"))
        folder.mkdir()
        item = north.go_on()
        assert (item.stage, item.status, item.needs_attention) == ("settle", "pending", True)
        assert list(folder.iterdir()) == []
        folder.rmdir()
        folder.with_name("unmounted").rename(folder)
        north.go_on()
        north.expect_repaired()


class TestWhenNoRepairIsOpened:
    def test_not_unless_the_settings_say_so_and_then_the_words_say_how(
        self, tmp_path: Path, sqlite_url: str, services: Services
    ) -> None:
        with repair_bench(tmp_path, services.up("rsyncd"), database_url=sqlite_url, repair=False) as north:
            north.spoil("truncated")
            item = north.find_bad()
            assert north.repairs() == 0
            assert item.needs_attention
            assert f"`dpn fixity repair {BAG}`" in item.note

    def test_not_where_the_bytes_are_those_that_were_stored(
        self, tmp_path: Path, sqlite_url: str, services: Services
    ) -> None:
        daemon = services.up("rsyncd")
        with repair_bench(tmp_path, daemon, database_url=sqlite_url, registered="ab" * 32) as north:
            item = north.find_bad()
            assert north.repairs() == 0
            assert item.needs_attention
            assert "No other copy would be better" in item.note

    def test_not_twice_for_a_copy_that_goes_bad_as_soon_as_it_is_repaired(
        self, north: RepairBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        north.spoil("truncated")
        north.find_bad()
        replace = FolderStore.replace

        def rot(store: FolderStore, *arguments: Any, **more: Any) -> Any:
            done = replace(store, *arguments, **more)
            north.spoil("bit flip in the payload")
            return done

        monkeypatch.setattr(FolderStore, "replace", rot)
        north.holders["south"].offer()
        north.go_on()
        check = north.last_check()
        assert (check.status, check.needs_attention, north.repairs()) == ("failed", True, 1)
        assert f"Item {north.repair().id} had repaired it: look at the store" in check.note

    def test_not_while_one_is_under_way_and_no_check_begins_meanwhile(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        repair = north.repair()
        with north.sessions.begin() as session:
            settings = FixitySettings(every_days=1.0)
            later = north.clock.now() + timedelta(days=40)
            begun, _ = begin_checks(
                session, settings, agent="cron", pipelines=PIPELINES, clock=north.clock, now=later
            )
        assert begun == 0
        again = north.find_bad()
        assert north.repairs() == 1
        assert f"Repair: item {repair.id}" in again.note

    def test_it_stays_known_when_a_check_is_begun_meanwhile(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        check = north.settle(self._begin_check(north))
        assert f"Repair: item {north.repair().id}" in check.note
        assert north.repairs() == 1
        north.holders["south"].offer()
        north.go_on()
        north.expect_repaired()

    def test_finding_it_reads_no_other_item(self, north: RepairBench) -> None:
        for _ in range(3):
            north.begin_drill("west")
        north.spoil("truncated")
        north.find_bad()
        read: list[int] = []

        def note(item: WorkItem, _: Any) -> None:
            read.append(item.id)

        event.listen(WorkItem, "load", note)
        try:
            with reading(north.sessions) as session:
                found = repair_under_way(session, BAG)
        finally:
            event.remove(WorkItem, "load", note)
        assert found is not None
        assert read == [found.id] == [north.repair().id]

    def test_one_that_ended_is_not_tried_again_beside_a_newer_one(self, north: RepairBench) -> None:
        north.spoil("truncated")
        north.find_bad()
        first = north.repair().id
        self._cancel(north, first)
        north.find_bad()
        second = north.repair().id
        assert second != first
        with north.sessions.begin() as session, pytest.raises(NotAllowed, match=f"item {second} repairs"):
            retry_item(session, first, operator="me", pipelines=PIPELINES, clock=north.clock)
        self._cancel(north, second)
        with north.sessions.begin() as session:
            retry_item(session, first, operator="me", pipelines=PIPELINES, clock=north.clock)

    def test_one_that_is_tried_again_is_known_to_later_checks(self, north: RepairBench) -> None:
        """Whose item took its place beside the copy once it had ended."""
        north.spoil("truncated")
        north.find_bad()
        repair = north.repair().id
        self._cancel(north, repair)
        check = self._begin_check(north)
        with north.sessions.begin() as session:
            retry_item(session, repair, operator="me", pipelines=PIPELINES, clock=north.clock)
        assert f"Repair: item {repair}" in north.settle(check).note
        assert north.repairs() == 1

    def _cancel(self, north: RepairBench, item: int) -> None:
        with north.sessions.begin() as session:
            cancel_item(session, item, reason="later", operator="me", pipelines=PIPELINES, clock=north.clock)

    def _begin_check(self, north: RepairBench) -> int:
        with north.sessions.begin() as session:
            item = begin_check(
                session,
                BAG,
                identifier=str(uuid4()),
                note="looked at",
                agent="me",
                pipelines=PIPELINES,
                clock=north.clock,
                now=north.clock.now(),
            )
        assert item is not None
        return item

    def test_a_check_that_is_run_again_opens_no_second_repair(self, north: RepairBench) -> None:
        north.spoil("truncated")
        found = north.find_bad()
        with north.sessions.begin() as session:
            retry_item(session, found.id, operator="me", pipelines=PIPELINES, clock=north.clock)
        again = north.settle(found.id)
        assert (again.note, again.needs_attention) == (found.note, False)
        assert north.repairs() == 1


class TestDrills:
    def test_a_drill_brings_the_bag_back_proves_it_and_leaves_nothing(self, north: RepairBench) -> None:
        before = north.path.stat().st_ino
        north.begin_drill("west")
        north.run_due()
        north.holders["west"].offer()
        item = north.go_on()
        assert item.status == "success"
        assert "west gave us the bag, whole and valid" in item.note
        assert north.requests()["west"].finished
        assert north.path.stat().st_ino == before
        assert (north.staged(), north.reservations(), north.records()) == ([], 0, [])

    @pytest.mark.parametrize(("mismatch", "ends"), [("reject", "failed"), ("warn", "success")])
    def test_another_size_than_registered_is_bad_unless_the_settings_let_it_be(
        self, north: RepairBench, mismatch: str, ends: str
    ) -> None:
        transfer = north.settings.transfer.model_copy(update={"size_mismatch": mismatch})
        north.settings = north.settings.model_copy(update={"transfer": transfer})
        north.begin_drill("west", size=north.receipt.size + 512)
        north.run_due()
        north.holders["west"].offer()
        item = north.try_until_it_waits()
        assert item.status == ends, item.note
        assert ("registered are" in item.note) == (ends == "failed")

    @pytest.mark.parametrize(
        ("kept", "same", "ends", "said"),
        [
            (True, True, "success", "whole and valid"),
            (True, False, "failed", "does not prove the payload"),
            (False, True, "success", "proven only by the bag's own manifest"),
        ],
    )
    def test_a_payload_that_the_digest_does_not_prove_is_held_against_our_own_copy(
        self,
        tmp_path: Path,
        sqlite_url: str,
        services: Services,
        kept: bool,
        same: bool,
        ends: str,
        said: str,
    ) -> None:
        files = bag_files()
        lines = files["tagmanifest-sha256.txt"].splitlines(keepends=True)
        files["tagmanifest-sha256.txt"] = b"".join(line for line in lines if b"manifest-" not in line)
        changed = {"data/a.txt": b"fixst\n", "data/folder/b.bin": files["data/folder/b.bin"]}
        swapped = {**files, **changed, "manifest-sha256.txt": checksums(changed, "sha256")}
        with repair_bench(tmp_path, services.up("rsyncd"), database_url=sqlite_url, files=files) as north:
            if not kept:
                with north.sessions.begin() as session:
                    session.execute(delete(StoredCopy))
            north.begin_drill("west")
            north.run_due()
            north.holders["west"].offer(None if same else members(swapped) + END)
            item = north.try_until_it_waits()
            assert item.status == ends, item.note
            assert said in item.note
            assert ("only by" in item.note) is not kept

    def test_a_drill_asks_no_other_node_and_says_what_it_got(self, north: RepairBench) -> None:
        north.begin_drill("west")
        north.run_due()
        content = damage(north.tar.read_bytes(), "bit flip in the payload")
        north.holders["west"].offer(content)
        item = north.try_until_it_waits()
        assert (item.status, item.needs_attention) == ("failed", True)
        assert "data/a.txt" in item.note
        assert north.requests().keys() == {"west"}
        assert len(north.quarantined()) == 1
