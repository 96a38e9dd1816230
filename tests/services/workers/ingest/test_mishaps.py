"""What goes wrong around an ingest: lost disks, swapped links, nodes that go, operators that cancel."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from dpn.errors import Interrupted, StoreMismatch
from dpn.ingest.submission import DepositRefused
from dpn.outbound.folder import Offer, Outbound
from dpn.packaging.description import Packaged
from dpn.packaging.package import package
from dpn.registry.catalogue import BAGS, INGESTS, put_transfer
from dpn.registry.catalogue.rows import save
from dpn.registry.rules import Accepted, Caller
from dpn.work.items import NotAllowed, cancel_item, retry_item
from models.work import WorkItem
from tests.fixtures.made_bags import UUID, bag_files, dpn_info, tar_bag
from tests.fixtures.records import a_bag, uuid
from tests.services.workers.ingest.depositing import Depositor, make_depositor
from workers.pipelines import PIPELINES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "data.bin").write_bytes(bytes(range(256)) * 400)
    return folder


@pytest.fixture
def north(tmp_path: Path) -> Depositor:
    return make_depositor(tmp_path / "north")


def retry(north: Depositor, item: int) -> WorkItem:
    with north.sessions.begin() as session:
        return retry_item(session, item, operator="somebody", pipelines=PIPELINES, clock=north.clock)


def cancel(north: Depositor, item: int) -> WorkItem:
    with north.sessions.begin() as session:
        return cancel_item(
            session, item, reason="a mistake", operator="somebody", pipelines=PIPELINES, clock=north.clock
        )


# --- what is offered ---------------------------------------------------------------------------------------------


def test_a_bag_whose_disk_was_lost_is_offered_again_where_the_open_transfers_say(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    bag, (first, second) = north.manifest(item).deposit.bag, north.manifest(item).transfers
    north.peers_store(first.to_node)
    items = north.settings.staging.volumes["main"] / "items"
    for path in (*items.iterdir(), *north.settings.ingest.outbound["main"].folder.iterdir()):
        shutil.rmtree(path)
    north.next_poll(item)
    north.next_poll(item)
    again = north.next_poll(item)
    assert "2 of 3 copies exist; waiting for" in again.note
    assert north.offered() == [(bag, None), (bag, second.to_node)]
    assert len(north.transfers()) == 2


def test_a_bag_that_is_packaged_again_on_another_volume_is_offered_where_the_nodes_were_told(
    north: Depositor, source: Path, tmp_path: Path
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    bag = north.manifest(item).deposit.bag
    told = north.offered()
    (tmp_path / "other").mkdir()
    other = {"folder": str(tmp_path / "other"), "link": "rsync://127.0.0.1:1/other/{node}/{bag}.tar"}
    outbound = {
        **north.settings.ingest.model_dump()["outbound"],
        "main": other,
        "lost": north.settings.ingest.outbound["main"],
    }
    ingest = north.settings.ingest.model_validate({**north.settings.ingest.model_dump(), "outbound": outbound})
    north.settings = north.settings.model_copy(update={"ingest": ingest})
    for _, node in told:
        if node is not None:
            (tmp_path / "north" / "outbound" / node / f"{bag}.tar").unlink()
    north.next_poll(item)
    assert north.offered() == told
    assert not list((tmp_path / "other").iterdir())


def test_what_a_killed_copy_left_in_the_outbound_folder_goes_with_the_bag(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    bag = north.manifest(item).deposit.bag
    kept = north.settings.ingest.outbound["main"].folder / ".bags"
    (kept / f".{bag}.tar.0123456789abcdef.tmp").write_bytes(b"half")
    north.peers_store("south", "west", "east")
    assert north.next_poll(item).status == "success"
    north.take_away_offers()
    assert [path for path in kept.parent.rglob("*") if path.is_file()] == []


def test_a_bag_that_cannot_be_withdrawn_keeps_no_other_from_being_withdrawn(
    north: Depositor, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = []
    for name in ("one", "two"):
        item = north.submit(source, name, key=name)
        north.run_until_it_waits(item)
        bags.append(north.manifest(item).deposit.bag)
        north.peers_store("south", "west", "east")
        assert north.next_poll(item).status == "success"
    stuck, whole = min(bags), Outbound.withdraw

    def withdraw(outbound: Outbound, entry: Offer) -> None:
        if entry.bag == stuck:
            raise PermissionError(f"{entry.path} is immutable")
        whole(outbound, entry)

    monkeypatch.setattr(Outbound, "withdraw", withdraw)
    with pytest.raises(PermissionError):
        north.take_away_offers()
    assert {bag for bag, _ in north.offered()} == {stuck}


def test_an_ingest_that_wants_no_other_copy_needs_nobody_and_no_outbound_folder(
    tmp_path: Path, source: Path
) -> None:
    north = make_depositor(tmp_path / "north", replicate_to_count=0)
    ingest = north.settings.ingest.model_copy(update={"outbound": {}})
    north.settings = north.settings.model_copy(update={"ingest": ingest})
    item = north.submit(source)
    done = north.run_until_it_waits(item)
    assert (done.status, done.note) == ("success", "1 copies: ours, proven; claimed by no other node")
    assert [ingest.replicating_nodes for ingest in north.records(INGESTS)] == [("north",)]
    assert north.transfers() == []
    assert north.reservations() == 0


# --- other nodes -------------------------------------------------------------------------------------------------


def test_who_declined_is_asked_again_once_an_operator_has_it_retried(tmp_path: Path, source: Path) -> None:
    north = make_depositor(tmp_path / "north", peers=("south", "west"))
    item = north.submit(source)
    north.run_until_it_waits(item)
    north.peer_declines("west")
    stuck = north.next_poll(item)
    assert stuck.needs_attention
    assert "`dpn item retry` asks those again that declined" in stuck.note
    retry(north, item)
    assert "waiting for south, west" in north.run_until_it_waits(item).note
    north.peer_declines("west")
    assert north.next_poll(item).needs_attention, "once, not for ever"
    retry(north, item)
    north.run_until_it_waits(item)
    north.peers_store("south", "west")
    assert north.next_poll(item).status == "success"
    assert len(north.transfers()) == 4


def test_a_node_that_has_left_the_settings_is_waited_for_and_named(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    gone, other = [planned.to_node for planned in north.manifest(item).transfers]
    peers = {name: peer for name, peer in north.settings.peers.items() if name != gone}
    north.settings = north.settings.model_copy(update={"peers": peers})
    north.peers_store(other)
    waiting = north.next_poll(item)
    assert (waiting.status, waiting.note) == ("pending", f"2 of 3 copies exist; waiting for {gone}")
    assert len(north.transfers()) == 2
    north.peers_store(gone)
    assert north.next_poll(item).status == "success"


def test_what_an_operator_takes_back_from_a_node_that_is_gone_is_asked_of_another(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    north.run_until_it_waits(item)
    gone, other = north.transfers()
    ended = gone.change(cancelled=True, cancel_reason="other", cancel_reason_detail="it is gone")
    with north.sessions.begin() as session:
        decision = put_transfer(
            session, gone.replication_id, ended, caller=Caller("north", "north"), now=north.clock.now(), copies=3
        )
    assert isinstance(decision, Accepted)
    assert not north.next_poll(item).needs_attention
    (third,) = {transfer.to_node for transfer in north.transfers()} - {gone.to_node, other.to_node}
    north.peers_store(other.to_node, third)
    assert north.next_poll(item).status == "success"


# --- sources -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["staging", "staging/items", "outbound", "."])
def test_what_lies_in_or_around_our_own_folders_is_not_deposited(
    north: Depositor, tmp_path: Path, where: str
) -> None:
    link = tmp_path / "an innocent name"
    link.symlink_to(tmp_path / "north" / where)
    item = north.submit(link)
    failed = north.run_until_it_waits(item)
    assert failed.status == "failed"
    assert "or around it, where bags on their way are kept" in failed.note
    assert north.reservations() == 0


def changed_manifest(north: Depositor, item_id: int, change: Callable[[dict[str, Any]], None]) -> None:
    with north.sessions.begin() as session:
        item = session.get_one(WorkItem, item_id)
        manifest = deepcopy(item.manifest)
        change(manifest)
        item.manifest = manifest


def test_a_contact_that_no_bag_can_have_is_asked_of_the_settings_again(north: Depositor, source: Path) -> None:
    """One that an earlier version kept with the item before it was looked at."""
    item = north.submit(source)
    unfit = {"node_address": "1 Long Street\nTown", "contact_name": "", "contact_email": ""}
    changed_manifest(north, item, lambda manifest: manifest.update(contact=unfit))
    assert "failed" not in north.run_until_it_waits(item).status
    kept = north.manifest(item).contact
    assert kept is not None
    assert kept.node_address == north.settings.ingest.node_address


def test_what_cannot_be_packaged_keeps_no_contact(north: Depositor, source: Path) -> None:
    item = north.submit(source)
    changed_manifest(north, item, lambda manifest: manifest["deposit"].update(title="two\nlines"))
    failed = north.run_until_it_waits(item)
    assert (failed.status, failed.note.startswith("the value of External-Description")) == ("failed", True)
    assert north.manifest(item).contact is None


def test_a_link_that_replaces_a_source_named_over_http_leads_nowhere(tmp_path: Path, source: Path) -> None:
    uploads, secrets = tmp_path / "uploads", tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("hush")
    (uploads / "mine").mkdir(parents=True)
    north = make_depositor(tmp_path / "north", source_folders=[uploads])
    item = north.submit(uploads / "mine", named_over_http=True)
    (uploads / "mine").rmdir()
    (uploads / "mine").symlink_to(secrets)
    failed = north.run_until_it_waits(item)
    assert failed.status == "failed"
    assert "ingest.source_folders" in failed.note
    assert north.staged() == []


@pytest.mark.parametrize("and_back", [False, True])
def test_a_link_that_comes_while_a_source_named_over_http_is_packaged_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, and_back: bool
) -> None:
    mine, secrets = tmp_path / "uploads" / "mine", tmp_path / "secrets"
    for folder, content in ((mine, "mine"), (secrets, "hush")):
        folder.mkdir(parents=True)
        (folder / "token").write_text(content)
    north = make_depositor(tmp_path / "north", source_folders=[tmp_path / "uploads"])
    item = north.submit(mine, named_over_http=True)

    def package_elsewhere(*args: Any, **more: Any) -> Packaged:
        mine.rename(tmp_path / "aside")
        mine.symlink_to(secrets)
        packaged = package(*args, **more)
        assert b"hush" in packaged.path.read_bytes()
        if and_back:
            mine.unlink()
            (tmp_path / "aside").rename(mine)
        return packaged

    with monkeypatch.context() as patched:
        patched.setattr("workers.ingest.package.package", package_elsewhere)
        north.run_due()
    assert "was moved or changed while it was being read" in north.item(item).note
    assert [path for path in north.staged() if path.suffix == ".tar"] == []
    if and_back:
        north.clock.advance(3600)
        north.run_due()
        (tar,) = (path for path in north.staged() if path.suffix == ".tar")
        assert b"mine" in tar.read_bytes()


def test_what_a_killed_worker_packaged_of_a_source_named_over_http_is_packaged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uploads" / "mine").mkdir(parents=True)
    (tmp_path / "uploads" / "mine" / "data").write_text("mine")
    north = make_depositor(tmp_path / "north", source_folders=[tmp_path / "uploads"])
    item = north.submit(tmp_path / "uploads" / "mine", named_over_http=True)

    def package_and_die(*args: Any, **more: Any) -> Packaged:
        package(*args, **more)
        raise Interrupted("killed")

    with monkeypatch.context() as patched:
        patched.setattr("workers.ingest.package.package", package_and_die)
        north.run_due()
    (left,) = (path for path in north.staged() if path.suffix == ".tar")
    unproven = left.stat().st_ino
    left.with_name("held").hardlink_to(left)  # so that no new file gets its number
    north.clock.advance(3600)
    north.run_due()
    assert north.item(item).stage == "store"
    (tar,) = (path for path in north.staged() if path.suffix == ".tar")
    assert tar.stat().st_ino != unproven


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": "https://example.org/thing"}, "a source is a path, or s3://bucket/prefix/"),
        ({"source": "s3://bucket"}, "empty prefix"),
        ({"source_name": "../x"}, "cannot name a folder of tag files"),
        ({"local_id": "nil"}, "Local-ID is 'nil'"),
        ({"local_id": "a thing\u3000"}, "spaces at its ends"),
        ({"title": "one\u2029two"}, "line breaks"),
    ],
)
def test_what_packaging_would_refuse_by_its_name_alone_is_refused_at_once(
    north: Depositor, source: Path, fields: dict[str, str], said: str
) -> None:
    with pytest.raises(DepositRefused, match=said):
        north.submit(**{"source": source, **fields})  # type: ignore[arg-type]


def test_a_bag_that_is_on_its_way_is_related_only_by_what_it_is(
    north: Depositor, source: Path, tmp_path: Path
) -> None:
    data = north.manifest(north.submit(source, "data")).deposit.bag
    with pytest.raises(DepositRefused, match="that bag is of type D, not R"):
        north.submit(tmp_path, "thing", rights=(data,))
    rights = north.submit(source, "rights", bag_type="rights")
    cancel(north, rights)
    with pytest.raises(DepositRefused, match="no such bag"):
        north.submit(tmp_path, "thing", rights=(north.manifest(rights).deposit.bag,))
    with pytest.raises(DepositRefused, match="no such bag"):
        north.submit(tmp_path, "rights", new_version_of=north.manifest(rights).deposit.bag)


def test_a_second_version_waits_until_the_first_is_registered(
    north: Depositor, source: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    first = north.submit(late, "thing")
    second = north.submit(source, "thing", new_version_of=north.manifest(first).deposit.bag)
    assert "which it refers to" in north.run_until_it_waits(second).note
    shutil.copytree(source, late)
    north.clock.advance(3600)
    north.run_until_it_waits(first)
    assert north.next_poll(second).note.startswith("1 of 3 copies exist")


@pytest.mark.parametrize("label", ["DPN-Object-ID", "First-Version-Object-ID"])
def test_a_bag_that_is_taken_as_it_is_cannot_name_files_of_ours(
    north: Depositor, tmp_path: Path, label: str
) -> None:
    stored = tmp_path / "north" / "store" / f"{uuid(5)}.tar"
    stored.write_bytes(b"a copy of years ago")
    info = dpn_info().replace(f"{label}: {UUID}".encode(), f"{label}: ../../../../store/{uuid(5)}".encode())
    hostile = tar_bag(tmp_path, bag_files(changes={"dpn-tags/dpn-info.txt": info}))
    with pytest.raises(DepositRefused, match="not a hyphenated UUID"):
        north.run_until_it_waits(north.submit(hostile, "inst.example/thing-1", as_is=True))
    assert stored.exists()


def as_it_is(folder: Path, **tags: str) -> Path:
    """A DPN bag in a tar whose dpn-info.txt says these, by label with `_` for `-`."""
    info = dpn_info().decode()
    for label, value in tags.items():
        info = re.sub(rf"^{label.replace('_', '-')}: .*$", f"{label.replace('_', '-')}: {value}", info, flags=re.M)
    return tar_bag(folder, bag_files(changes={"dpn-tags/dpn-info.txt": info.encode()}))


def test_a_bag_that_is_taken_as_it_is_says_itself_what_it_refers_to(
    north: Depositor, source: Path, tmp_path: Path
) -> None:
    rights = north.manifest(north.submit(source, "rights", bag_type="rights")).deposit.bag
    local_id = "inst.example/thing-1"
    tar = as_it_is(tmp_path, Rights_Object_ID=rights.upper())
    with pytest.raises(DepositRefused, match="it says itself"):
        north.submit(tar, local_id, as_is=True, rights=(rights,))
    with pytest.raises(DepositRefused, match="no such bag in our registry"):
        north.submit(as_it_is(tmp_path, Rights_Object_ID=uuid(77)), local_id, as_is=True)
    tar = as_it_is(tmp_path, Rights_Object_ID=rights.upper())
    item = north.submit(tar, local_id, as_is=True)
    north.run_until_it_waits(item)
    north.next_poll(item)
    recorded = north.bag(item)
    assert recorded is not None, north.item(item).note
    assert recorded.rights == (rights,)


def test_a_bag_that_is_taken_as_it_is_joins_no_other_members_family(north: Depositor, tmp_path: Path) -> None:
    with north.sessions.begin() as session:
        save(session, BAGS, [a_bag(1, member=uuid(3))])
    tar = as_it_is(tmp_path, First_Version_Object_ID=uuid(1), Version_Number="2")
    with pytest.raises(DepositRefused, match="that bag is of member"):
        north.submit(tar, "inst.example/thing-1", as_is=True)


# --- operators ---------------------------------------------------------------------------------------------------


def test_an_ingest_is_cancelled_before_its_bag_is_stored_and_leaves_nothing(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    north.run_due()
    assert north.item(item).stage == "store"
    cancel(north, item)
    north.staging.release_orphans()
    north.staging.sweep_orphans(PIPELINES.read_manifest, grace_seconds=-1e9)
    assert north.reservations() == 0
    assert north.staged() == []
    assert north.run_due() == []
    retry(north, item)
    north.run_until_it_waits(item)
    assert north.next_poll(item).note.startswith("1 of 3 copies exist")


def test_an_ingest_whose_bag_is_stored_cannot_be_cancelled_behind_the_back_of_who_was_asked(
    north: Depositor, source: Path
) -> None:
    item = north.submit(source)
    for _ in range(2):
        north.run_due()
    assert north.item(item).stage == "record"
    for _ in range(2):
        with pytest.raises(NotAllowed, match="already has a stored copy"):
            cancel(north, item)
        north.run_due()
    assert len(north.transfers()) == 2


def test_on_another_file_system_the_bag_is_copied_once(tmp_path: Path, source: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    elsewhere = Path(tempfile.mkdtemp(dir=memory))
    try:
        outbound = {"folder": str(elsewhere), "link": "rsync://127.0.0.1:1/outbound/{node}/{bag}.tar"}
        north = make_depositor(tmp_path / "north", outbound={"main": outbound})
        item = north.submit(source)
        north.run_until_it_waits(item)
        inodes = {path.stat().st_ino for path in elsewhere.rglob("*.tar")}
        assert len(inodes) == 1
        north.peers_store("south", "west", "east")
        assert north.next_poll(item).status == "success"
        north.take_away_offers()
        assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
    finally:
        shutil.rmtree(elsewhere)


def test_a_store_that_keeps_other_bytes_ends_no_deposit(
    north: Depositor, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = north.submit(source)
    north.run_due()
    assert north.item(item).stage == "store"
    with monkeypatch.context() as lying:
        lying.setattr(type(north.store), "put", _keep_other_bytes)
        for _ in range(north.settings.work.attempts + 1):
            north.run_due()
            waiting = north.item(item)
            assert (waiting.status, waiting.attempts, waiting.needs_attention) == ("pending", 0, True)
            north.clock.advance(6 * 3600)
        assert "other bytes" in waiting.note
    north.run_due()
    assert north.manifest(item).receipt is not None


def _keep_other_bytes(*_: Any, **__: Any) -> None:
    raise StoreMismatch("it keeps other bytes than it was given")
