"""A deposit becomes one bag with as many proven copies as are wanted, whoever declines; else it says why not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dpn.bags.identity import read_identity
from dpn.database import reading
from dpn.registry.catalogue import BAGS, INGESTS
from dpn.work.items import cancel_item, retry_item
from dpn.work.schedule.sweep import abandon_lost_volumes
from models.work import AuditEvent
from tests.services.workers.ingest.depositing import MEMBER, Depositor, make_depositor, place
from workers.pipelines import PIPELINES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "texts").mkdir(parents=True)
    (folder / "texts/Grüße.txt").write_text("Schöne Grüße\n", encoding="utf-8")
    (folder / "empty").touch()
    (folder / "data.bin").write_bytes(bytes(range(256)) * 400)
    return folder


@pytest.fixture
def north(tmp_path: Path) -> Depositor:
    return make_depositor(tmp_path / "north")


def events(north: Depositor, bag: str) -> list[tuple[str, str]]:
    with reading(north.sessions) as session:
        statement = select(AuditEvent.event_type, AuditEvent.outcome).where(AuditEvent.object_id == bag)
        return [(kind, outcome) for kind, outcome in session.execute(statement.order_by(AuditEvent.id))]


def test_a_deposit_ends_when_all_wanted_copies_are_proven(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    waiting = north.run_until_it_waits(item)
    assert (waiting.stage, waiting.status, waiting.needs_attention) == ("record", "pending", False)
    assert "1 of 3 copies exist; waiting for " in waiting.note
    manifest = north.manifest(item)
    bag, nodes = manifest.deposit.bag, [planned.to_node for planned in manifest.transfers]
    assert north.offered() == [(bag, None), *((bag, node) for node in sorted(nodes))]
    assert manifest.receipt is not None
    entry = next(entry for entry in north.outbound.entries() if entry.node == nodes[0])
    assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == manifest.receipt.sha256
    assert [transfer.link for transfer in north.transfers() if transfer.to_node == nodes[0]] == [
        f"rsync://127.0.0.1:1/outbound/{nodes[0]}/{bag}.tar"
    ]
    north.peers_store(nodes[0])
    assert "2 of 3 copies exist" in north.next_poll(item).note
    assert north.records(INGESTS) == []
    north.peers_store(nodes[1])
    done = north.next_poll(item)
    assert (done.status, done.needs_attention) == ("success", False)
    (ingest,) = north.records(INGESTS)
    assert (ingest.bag, ingest.ingested, ingest.replicating_nodes) == (bag, True, tuple(sorted(["north", *nodes])))
    assert north.reservations() == 0
    assert north.staged() == []
    north.take_away_offers()
    assert north.offered() == []


def test_the_trail_says_what_was_done_to_the_bag(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    north.peers_store("south", "west", "east")
    north.next_poll(item)
    told = events(north, north.manifest(item).deposit.bag)
    for wanted in (
        ("packing", "success"),
        ("validation", "success"),
        ("replication", "success"),
        ("identifier assignment", "success"),
        ("message digest calculation", "success"),
        ("ingestion", "success"),
        ("replication", "requested"),
    ):
        assert wanted in told
    assert told.count(("replication", "requested")) == 2
    assert told.count(("ingestion", "success")) == 1


def test_a_node_that_declines_is_replaced_by_another(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    first, second = [planned.to_node for planned in north.manifest(item).transfers]
    north.peer_declines(first)
    again = north.next_poll(item)
    assert not again.needs_attention
    third = north.manifest(item).transfers[2].to_node
    assert {first, second, third} == {"south", "west", "east"}
    north.take_away_offers()
    bag = north.manifest(item).deposit.bag
    assert north.offered() == [(bag, None), *((bag, node) for node in sorted((second, third)))]
    north.peers_store(second, third)
    assert north.next_poll(item).status == "success"
    assert len(north.transfers()) == 3


def test_when_no_node_is_left_it_says_who_declined_and_goes_on_once_there_is_one(
    tmp_path: Path, source: Path
) -> None:
    north = make_depositor(tmp_path / "north", peers=("south", "west"))
    item = north.submit(source)
    north.run_until_it_waits(item)
    north.peer_declines("west")
    north.peers_store("south")
    stuck = north.next_poll(item)
    assert (stuck.status, stuck.needs_attention) == ("pending", True)
    assert "no node is left to ask (west declined (reject: no room))" in stuck.note
    assert "ingest.replicate_to_count" in stuck.note
    north.settings = north.settings.model_copy(
        update={"ingest": north.settings.ingest.model_copy(update={"replicate_to_count": 1})}
    )
    assert north.next_poll(item).status == "success"


def test_copies_are_spread_over_regions_and_a_members_exclusions_hold(tmp_path: Path, source: Path) -> None:
    north = make_depositor(tmp_path / "north", exclude={MEMBER: ["east"]}, replicate_to_count=1)
    place(north, "west", "far away")
    place(north, "east", "farther still")
    for number in range(5):
        item = north.submit(source, f"thing {number}", key=str(number))
        north.run_until_it_waits(item)
        assert [planned.to_node for planned in north.manifest(item).transfers] == ["west"]


def test_the_next_version_joins_its_family_and_a_rights_bag_is_found_by_its_data_bag(
    north: Depositor, source: Path
) -> None:
    rights = north.submit(source, "the rights", bag_type="rights")
    first = north.submit(source, "the thing", rights=(north.manifest(rights).deposit.bag,))
    north.run_until_it_waits(first)
    first_bag, rights_bag = north.bag(first), north.bag(rights)
    assert first_bag is not None
    assert rights_bag is not None
    assert (first_bag.rights, rights_bag.bag_type) == ((rights_bag.uuid,), "R")
    second = north.submit(source, "the thing", new_version_of=first_bag.uuid, key="second")
    north.run_until_it_waits(second)
    second_bag = north.bag(second)
    assert second_bag is not None
    assert (second_bag.version, second_bag.first_version_uuid) == (2, first_bag.uuid)
    entry = next(entry for entry in north.outbound.entries() if entry.bag == second_bag.uuid)
    identity = read_identity(entry.path)
    assert (identity.version, identity.first_version_uuid) == (2, first_bag.uuid)


def test_a_bag_waits_for_the_rights_bag_that_it_refers_to(north: Depositor, source: Path, tmp_path: Path) -> None:
    late = tmp_path / "late"
    rights = north.submit(late, "the rights", bag_type="rights")
    thing = north.submit(source, "the thing", rights=(north.manifest(rights).deposit.bag,))
    north.run_until_it_waits(thing)
    waiting = north.item(thing)
    assert (waiting.status, waiting.needs_attention) == ("pending", False)
    assert waiting.note.endswith("which it refers to")
    late.mkdir()
    (late / "licence.txt").write_text("as you like")
    north.clock.advance(3600)
    north.run_until_it_waits(thing)
    assert north.next_poll(thing).note.startswith("1 of 3 copies exist")


@pytest.mark.parametrize("how", ["failed", "was cancelled"])
@pytest.mark.parametrize("what", ["rights", "interpretive", "first version"])
def test_a_bag_that_refers_to_a_deposit_that_has_ended_says_so_at_once_and_goes_on_when_that_is_registered(
    north: Depositor, source: Path, tmp_path: Path, what: Any, how: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "licence.txt").write_text("as you like")
    first = north.submit(other, "it", bag_type="data" if what == "first version" else what)
    bag = north.manifest(first).deposit.bag
    named: dict[str, Any] = {"new_version_of": bag} if what == "first version" else {what: (bag,)}
    thing = north.submit(source, "it" if what == "first version" else "the thing", **named)
    if how == "failed":
        (other / "link").symlink_to("/etc/passwd")
    else:
        with north.sessions.begin() as session:
            cancel_item(session, first, reason="no", operator="op", pipelines=PIPELINES, clock=north.clock)
    waiting = north.run_until_it_waits(thing)
    assert (waiting.stage, waiting.status, waiting.needs_attention) == ("record", "pending", True)
    assert f"waits for {bag}, which it refers to: item {first} (bag {bag}) {how}; fix what" in waiting.note
    assert "`dpn item retry`" in waiting.note
    assert north.next_poll(thing).needs_attention, "for as long as that is so"
    (other / "link").unlink(missing_ok=True)
    with north.sessions.begin() as session:
        retry_item(session, first, operator="op", pipelines=PIPELINES, clock=north.clock)
    north.run_until_it_waits(first)
    going = north.next_poll(thing)
    assert (going.needs_attention, going.note[:19]) == (False, "1 of 3 copies exist")


def test_what_the_depositor_must_fix_ends_the_item_with_the_reason(north: Depositor, source: Path) -> None:
    (source / "link").symlink_to("/etc/passwd")
    item = north.submit(source)
    failed = north.run_until_it_waits(item)
    assert (failed.status, failed.needs_attention) == ("failed", True)
    assert "symbolic link" in failed.note
    assert north.records(BAGS) == []
    assert north.reservations() == 0
    assert north.staged() == []


def test_without_room_it_waits_and_takes_none(tmp_path: Path, source: Path) -> None:
    north = make_depositor(tmp_path / "north")
    north.settings = north.settings.model_copy(
        update={"staging": north.settings.staging.model_copy(update={"floor_bytes": 1 << 60})}
    )
    north.staging._settings = north.settings.staging
    item = north.submit(source)
    waiting = north.run_until_it_waits(item)
    assert waiting.status == "pending"
    assert "no staging volume has room for" in waiting.note
    assert north.reservations() == 0


# --- what is staged is lost --------------------------------------------------------------------------------------


def lose_what_is_staged(north: Depositor, *, and_offered: bool = False) -> None:
    paths = [*north.staged(), *(entry.path for entry in north.outbound.entries() if and_offered)]
    assert paths
    for path in paths:
        path.unlink()


def no_worker_mounts_the_volume(north: Depositor) -> None:
    """For longer than is waited for it; its disk is lost."""
    north.clock.advance(100_000)
    with north.sessions.begin() as session:
        abandoned = abandon_lost_volumes(
            session, after_id=0, abandon_after_seconds=60, pipelines=PIPELINES, worker="test", clock=north.clock
        )
    assert len(abandoned.items) == 1
    north.staging.mount()


def change_or_remove(source: Path, how: str) -> None:
    if how == "removed":
        shutil.rmtree(source)
    else:
        (source / "data.bin").write_bytes(b"other")


def test_a_bag_whose_disk_is_lost_is_packaged_again_to_the_same_bytes(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    before, offered = north.manifest(item), north.offered()
    lose_what_is_staged(north, and_offered=True)
    moved = north.settings.ingest.model_copy(update={"contact_name": "Somebody else"})
    north.settings = north.settings.model_copy(update={"ingest": moved})
    north.clock.advance(3600)
    north.run_until_it_waits(item)
    north.clock.advance(3600)
    again = north.run_until_it_waits(item)
    after = north.manifest(item)
    assert again.note.startswith("1 of 3 copies exist")
    assert (after.receipt, after.transfers) == (before.receipt, before.transfers)
    assert north.offered() == offered
    assert len(north.transfers()) == 2


def test_a_source_that_has_changed_since_it_was_stored_is_not_passed_off_as_the_same_bag(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    lose_what_is_staged(north, and_offered=True)
    change_or_remove(source, "changed")
    north.clock.advance(3600)
    north.run_until_it_waits(item)
    north.clock.advance(3600)
    failed = north.run_until_it_waits(item)
    assert (failed.status, failed.needs_attention) == ("failed", True)
    assert "deposit what it is now as a new version" in failed.note


@pytest.mark.parametrize("how", ["removed", "changed"])
def test_once_all_copies_exist_neither_what_is_staged_nor_its_source_is_needed(
    north: Depositor, source: Path, how: str
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    north.peers_store("south", "west", "east")
    lose_what_is_staged(north, and_offered=True)
    change_or_remove(source, how)
    done = north.next_poll(item)
    assert (done.status, done.stage, done.needs_attention) == ("success", "record", False)
    assert north.manifest(item).restarts == 0
    assert len(north.records(INGESTS)) == 1
    assert north.reservations() == 0


def test_a_deposit_that_has_lost_all_but_its_stored_bag_says_so_and_ends_once_the_copies_exist(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    first, second = (planned.to_node for planned in north.manifest(item).transfers)
    lose_what_is_staged(north, and_offered=True)
    change_or_remove(source, "removed")
    north.next_poll(item)
    north.peers_store(first)
    for _ in range(north.settings.work.attempts + 1):
        waiting = north.next_poll(item)
        assert (waiting.stage, waiting.status, waiting.attempts) == ("package", "pending", 1), (
            "of its starting over"
        )
        assert waiting.needs_attention
    assert waiting.note.startswith("2 of 3 copies exist, ours among them; what other nodes were to fetch is lost")
    assert f"{source} is away" in waiting.note
    assert "cancel" not in waiting.note, "what is stored cannot be cancelled"
    assert "put the source back as it was" in waiting.note
    north.peers_store(second)
    done = north.next_poll(item)
    assert (done.status, done.stage, done.needs_attention) == ("success", "record", False)
    assert len(north.records(INGESTS)) == 1


@pytest.mark.parametrize("how", ["removed", "changed"])
def test_while_the_bag_lies_where_the_nodes_fetch_it_nothing_else_is_needed(
    north: Depositor, source: Path, how: str
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    offered = north.offered()
    lose_what_is_staged(north)
    change_or_remove(source, how)
    waiting = north.next_poll(item)
    assert (waiting.status, waiting.stage, waiting.needs_attention) == ("pending", "record", False)
    assert waiting.note.startswith("1 of 3 copies exist; waiting for ")
    assert north.offered() == offered
    north.peers_store("south", "west", "east")
    assert north.next_poll(item).status == "success"


def test_a_node_that_declines_has_the_lost_bag_packaged_again_for_another(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    receipt = north.manifest(item).receipt
    lose_what_is_staged(north)
    north.peer_declines(north.manifest(item).transfers[0].to_node)
    north.next_poll(item)
    north.next_poll(item)
    manifest = north.manifest(item)
    assert (manifest.receipt, len(manifest.transfers), manifest.restarts) == (receipt, 3, 1)
    assert (manifest.deposit.bag, manifest.transfers[2].to_node) in north.offered()
    north.peers_store("south", "west", "east")
    assert north.next_poll(item).status == "success"


@pytest.mark.parametrize("how", ["removed", "changed"])
def test_an_ingest_whose_copies_exist_ends_though_no_worker_mounts_its_volume(
    north: Depositor, source: Path, how: str
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    north.peers_store("south", "west", "east")
    lose_what_is_staged(north, and_offered=True)
    change_or_remove(source, how)
    no_worker_mounts_the_volume(north)
    left = north.item(item)
    assert (left.stage, left.status, left.staging_volume) == ("record", "pending", None)
    done = north.run_until_it_waits(item)
    assert (done.status, done.needs_attention) == ("success", False)
    assert north.reservations() == 0


def test_an_ingest_whose_volume_no_worker_mounts_is_packaged_again_for_who_must_be_offered_it(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    before, offered = north.manifest(item), north.offered()
    north.peers_store(before.transfers[0].to_node)
    lose_what_is_staged(north, and_offered=True)
    no_worker_mounts_the_volume(north)
    north.run_until_it_waits(item)
    waiting = north.next_poll(item)
    assert waiting.note == f"2 of 3 copies exist; waiting for {before.transfers[1].to_node}"
    after = north.manifest(item)
    assert (after.receipt, after.transfers) == (before.receipt, before.transfers)
    assert north.offered() == [one for one in offered if one[1] != before.transfers[0].to_node]
    north.peers_store(before.transfers[1].to_node)
    assert north.next_poll(item).status == "success"
