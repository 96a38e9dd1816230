"""Each bad input has a clear outcome, and nothing is lost.

Peers that talk nonsense, links that lie, tars that are not what was promised, disks and stores that refuse.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpn.database import reading
from dpn.errors import Misconfigured, PeerRefused, StoreMismatch, StoreUnavailable, TransientError
from dpn.registry.client import RegistryClient
from dpn.registry.records import ReplicationRecord
from dpn.s3.errors import ObjectTooLarge, UploadLost
from models.registry import ReplicationTransfer
from models.work import Status, WorkItem
from tests.fixtures.nasty.peer import Nasty, NastyPeer
from tests.services.workers.replication.consortium import North, South, make_south

TRANSIENT = [
    Nasty.ERROR_500,
    Nasty.BUSY,
    Nasty.HTML,
    Nasty.HTML_404,
    Nasty.TRUNCATED,
    Nasty.BROKEN_JSON,
    Nasty.HANGS,
    Nasty.RESET,
    Nasty.SLOW_DRIP,
    Nasty.ENDLESS_BODY,
    Nasty.REDIRECT_ELSEWHERE,
    Nasty.REDIRECT_LOOP,
    Nasty.WRONG_RECORD,
    Nasty.DEEP,
    Nasty.WRONG_TYPES,
]


@pytest.fixture
def nasty(north: North, south: South) -> Iterator[NastyPeer]:
    """North's registry behind a peer that misbehaves when told to; south speaks with that one, impatiently."""
    with NastyPeer(north.server.address) as peer:
        settings = south.settings.peers["north"].model_copy(
            update={
                "api_root": peer.url,
                "connect_timeout_seconds": 2.0,
                "read_timeout_seconds": 0.5,
                "total_timeout_seconds": 1.5,
            }
        )
        south.clients["north"] = RegistryClient("north", settings, max_answer_bytes=1_000_000)
        yield peer


@pytest.mark.parametrize("behaviour", TRANSIENT)
def test_a_peer_that_misbehaves_is_waited_for_and_the_bag_arrives(
    north: North, south: South, bag: Path, nasty: NastyPeer, behaviour: Nasty
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    nasty.behave(behaviour)
    for _ in range(4):
        south.run_due()
        waiting = south.item(item)
        assert (waiting.stage, waiting.status, waiting.attempts) == ("copy", Status.PENDING, 0), waiting.note
        assert "peer:north is unavailable" in waiting.note
        south.clock.advance(1000)
    assert not north.transfer(transfer.replication_id).cancelled
    nasty.behave(Nasty.WELL)
    assert south.settle(item).status == Status.SUCCESS


@pytest.mark.parametrize(("behaviour", "word"), [(Nasty.UNAUTHORIZED, "token"), (Nasty.FORBIDDEN, "403")])
def test_a_peer_that_does_not_let_us_in_calls_for_an_operator_and_is_asked_again(
    north: North, south: South, bag: Path, nasty: NastyPeer, behaviour: Nasty, word: str
) -> None:
    item = south.request(north.deposit(bag))
    nasty.behave(behaviour)
    south.run_due()
    waiting = south.item(item)
    assert (waiting.status, waiting.needs_attention, waiting.attempts) == (Status.PENDING, True, 0)
    assert word in waiting.note
    nasty.behave(Nasty.WELL)
    assert south.settle(item).status == Status.SUCCESS


def test_a_write_whose_answer_is_lost_is_not_repeated_blindly(
    north: North, south: South, bag: Path, nasty: NastyPeer
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    nasty.behave(Nasty.LOST_REPLY, method="PUT", times=1)
    south.settle(item)
    puts = [seen for seen in nasty.seen if seen.method == "PUT"]
    assert len(puts) == 2, "one for the fixity, whose answer was lost, one for stored"
    assert north.transfer(transfer.replication_id).stored


HOSTILE_LINKS = [
    "-e sh@127.0.0.1:{bag}.tar",
    "--rsh=sh {bag}.tar",
    "rsync://127.0.0.1:{port}/outbound/../../etc/passwd/{bag}.tar",
    "rsync://127.0.0.1:{port}/outbound/$(reboot)/{bag}.tar",
    "rsync://127.0.0.1:{port}/outbound/`id`/{bag}.tar",
    "rsync://127.0.0.1:{port}/outbound/a;id;/{bag}.tar",
    "rsync://evil.example.org:{port}/outbound/{bag}.tar",
    "rsync://127.0.0.1:22/outbound/{bag}.tar",
    "rsync://127.0.0.1:{port}/outbound/other.tar",
    "/etc/{bag}.tar",
    "file:///etc/{bag}.tar",
    "root@127.0.0.1:/etc/{bag}.tar",
    "rsync://127.0.0.1:{port}/outbound/a\n{bag}.tar",
]


@pytest.mark.parametrize("link", HOSTILE_LINKS)
def test_a_hostile_link_is_refused_and_its_owner_told(north: North, south: South, bag: Path, link: str) -> None:
    transfer = north.deposit(bag, link=link.format(bag=bag.stem, port=north.daemon["port"]))
    item = south.settle(south.request(transfer))
    south.settle_all()
    assert item.status == Status.FAILED
    assert "link" in item.note
    told = north.transfer(transfer.replication_id)
    assert (told.cancelled, told.cancel_reason) == (True, "reject")


@pytest.mark.parametrize("identifier", ["not-a-uuid", "../../etc/passwd", "x" * 200, ""])
def test_an_item_whose_identifier_is_no_uuid_fails_without_asking_anybody(
    north: North, south: South, bag: Path, identifier: str
) -> None:
    item = south.request(north.deposit(bag))
    with south.sessions.begin() as session:
        session.get_one(WorkItem, item).identifier = identifier
    ended = south.settle(item)
    assert ended.status == Status.FAILED
    assert ended.needs_attention


def test_a_transfer_for_a_bag_that_is_no_uuid_cannot_even_be_read(north: North, south: South, bag: Path) -> None:
    """Its owner's registry shows a bag id that is a path: the record is refused as nonsense, the item waits."""
    transfer = north.deposit(bag)
    item = south.request(transfer)
    with north.sessions.begin() as session:
        session.connection().exec_driver_sql("PRAGMA foreign_keys = OFF")
        session.get_one(ReplicationTransfer, transfer.replication_id).fixity_algorithm = "SHA 256; rm"
    south.run_due()
    assert south.item(item).status == Status.PENDING
    assert "unavailable" in south.item(item).note


def test_a_tar_that_is_missing_is_asked_for_again_and_given_up_in_the_end(
    north: North, south: South, make_bag: Callable[..., Path]
) -> None:
    bag, lost = make_bag(), make_bag()
    transfer = north.deposit(bag)
    (north.outbound / bag.name).unlink()
    item = south.request(transfer)
    south.run_due()
    assert "does not have the file" in south.item(item).note
    assert south.item(item).attempts == 1
    shutil.copyfile(bag, north.outbound / bag.name)
    assert south.settle(item).status == Status.SUCCESS

    gone = north.deposit(lost)
    (north.outbound / lost.name).unlink()
    ended = south.settle(south.request(gone))
    south.settle_all()
    assert ended.status == Status.FAILED
    assert north.transfer(gone.replication_id).cancel_reason == "other"


def test_a_tar_that_is_still_being_written_is_taken_once_it_is_whole(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    whole = bag.read_bytes()
    (north.outbound / bag.name).write_bytes(whole[: len(whole) // 2])
    item = south.request(transfer)
    south.run_due()
    waiting = south.item(item)
    assert waiting.status == Status.PENDING
    assert "perhaps its owner is still writing it" in waiting.note
    (north.outbound / bag.name).write_bytes(whole)
    assert south.settle(item).status == Status.SUCCESS


@pytest.mark.parametrize(
    "change", [lambda tar: tar[:-2048], lambda tar: tar + b"\0" * 10_240, lambda tar: tar[:1]]
)
def test_a_tar_of_the_wrong_size_is_refused_in_the_end(
    north: North, south: South, bag: Path, change: Callable[[bytes], bytes]
) -> None:
    transfer = north.deposit(bag)
    (north.outbound / bag.name).write_bytes(change(bag.read_bytes()))
    item = south.settle(south.request(transfer))
    south.settle_all()
    assert item.status == Status.FAILED
    told = north.transfer(transfer.replication_id)
    assert told.cancel_reason == "bag_invalid"
    assert str(bag.stat().st_size) in (told.cancel_reason_detail or "")


def test_what_is_no_tar_at_all_is_refused(north: North, south: South, bag: Path) -> None:
    transfer = north.deposit(bag)
    (north.outbound / bag.name).write_bytes(os.urandom(bag.stat().st_size))
    item = south.settle(south.request(transfer))
    south.settle_all()
    assert item.status == Status.FAILED
    assert north.transfer(transfer.replication_id).cancel_reason == "bag_invalid"


def test_sizes_that_a_registry_has_wrong_are_only_warned_of_where_settings_say_so(
    north: North, bag: Path, tmp_path: Path, south: South
) -> None:
    lenient = make_south(tmp_path / "lenient", north, south.clock, transfer={"size_mismatch": "warn"})
    transfer = north.deposit(bag, size=71_680)
    assert lenient.settle(lenient.request(transfer)).status == Status.SUCCESS


def test_a_disk_without_room_is_waited_for_and_nothing_is_copied(
    north: North, bag: Path, tmp_path: Path, south: South
) -> None:
    full = make_south(tmp_path / "full", north, south.clock, staging={"floor_bytes": 10**18})
    item = full.request(north.deposit(bag))
    for _ in range(20):
        full.run_due()
        full.clock.advance(3600)
    waiting = full.item(item)
    assert (waiting.stage, waiting.status, waiting.attempts) == ("copy", Status.PENDING, 0)
    assert "room" in waiting.note
    assert not list(full.settings.staging.volumes["main"].rglob("*.tar"))


class DisturbedStore:
    """A real store in front of which something goes wrong a number of times."""

    def __init__(self, store: object, errors: list[Exception]) -> None:
        self.store = store
        self.errors = errors

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def put(self, *arguments: object, **named: object) -> object:
        if self.errors:
            raise self.errors.pop(0)
        return self.store.put(*arguments, **named)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "attempts", "attention"),
    [
        (StoreUnavailable("store:main", "timed out"), 0, False),
        (Misconfigured("store main: access denied: give the key s3:PutObject"), 0, True),
        (StoreMismatch("the store holds other bytes"), 0, True),
        (UploadLost("the store knows no such upload"), 0, True),
        (TransientError("HTTP 418 that nobody knows"), 0, True),
        (ObjectTooLarge("it takes no object as large as that"), 0, True),
        (OSError(5, "Input/output error"), 0, True),
    ],
)
def test_a_store_that_refuses_is_asked_again_and_the_staged_bag_stays(
    north: North, south: South, bag: Path, error: Exception, attempts: int, attention: bool
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    south.store = DisturbedStore(south.store, [error])  # type: ignore[assignment]
    south.run_due()
    waiting = south.item(item)
    assert (waiting.status, waiting.attempts, waiting.needs_attention) == (Status.PENDING, attempts, attention)
    assert south.manifest(item).receipt is None
    assert not north.transfer(transfer.replication_id).stored
    staged = south.manifest(item).staged
    assert staged is not None
    assert south.staging.holds(staged)
    assert south.settle(item).status == Status.SUCCESS


def test_a_store_that_never_keeps_what_it_is_given_costs_no_owner_its_transfer(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    tries = 3 * south.settings.work.attempts
    lies = [StoreMismatch(f"it holds other bytes, {number}") for number in range(tries)]
    good, south.store = south.store, DisturbedStore(south.store, list(lies))  # type: ignore[assignment]
    pauses = []
    for _ in range(tries):
        south.run_due()
        waiting = south.item(item)
        assert (waiting.status, waiting.attempts, waiting.needs_attention) == (Status.PENDING, 0, True)
        assert "look at our store" in waiting.note
        pauses.append((waiting.run_after - south.clock.now()).total_seconds())
        south.clock.advance(pauses[-1] + 1)
    assert not south.store.errors, "it was tried each time"  # type: ignore[attr-defined]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(6 * 3600), "a bag is not sent for nothing all day"
    assert not north.transfer(transfer.replication_id).cancelled
    south.store = good
    assert south.settle(item).status == Status.SUCCESS
    assert north.transfer(transfer.replication_id).stored


def test_an_owner_that_refuses_right_before_the_end_is_no_fault_of_our_store(
    north: North, south: South, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = south.request(north.deposit(bag))
    south.settle(item, until=lambda row: row.stage == "store")
    client, asked = south.clients["north"], []
    get_transfer = client.get_transfer

    def refuse_the_second_time(replication_id: str) -> ReplicationRecord:
        asked.append(replication_id)
        if len(asked) == 2:
            raise PeerRefused("north", 400, "not now")
        return get_transfer(replication_id)

    monkeypatch.setattr(client, "get_transfer", refuse_the_second_time)
    south.run_due()
    waiting = south.item(item)
    assert (waiting.status, waiting.attempts) == (Status.PENDING, 1)
    assert "not now" in waiting.note
    assert "our store" not in waiting.note


def test_a_store_that_holds_something_else_under_the_name_is_left_alone_and_shown(
    north: North, south: South, bag: Path
) -> None:
    item = south.request(north.deposit(bag))
    stored = Path(south.settings.store.url.removeprefix("file://")) / bag.name
    stored.write_bytes(b"somebody else's")
    south.settle(item, until=lambda row: row.needs_attention)
    assert south.item(item).status == Status.PENDING
    assert stored.read_bytes() == b"somebody else's"


def test_a_bag_that_rots_while_it_is_staged_is_copied_anew_not_stored(
    north: North, south: South, bag: Path
) -> None:
    item = south.request(north.deposit(bag))
    south.settle(item, until=lambda row: row.stage == "store")
    staged = south.manifest(item).staged
    assert staged is not None
    path = south.staging.path_of(staged)
    rotten = bytearray(path.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    path.write_bytes(rotten)
    assert south.settle(item).status == Status.SUCCESS
    stored = Path(south.settings.store.url.removeprefix("file://")) / bag.name
    assert stored.read_bytes() == bag.read_bytes()


@pytest.mark.parametrize("stage", ["validate", "store"])
def test_a_staged_bag_that_disappears_is_copied_anew(north: North, south: South, bag: Path, stage: str) -> None:
    item = south.request(north.deposit(bag))
    south.settle(item, until=lambda row: row.stage == stage)
    staged = south.manifest(item).staged
    assert staged is not None
    south.staging.path_of(staged).unlink()
    assert south.settle(item).status == Status.SUCCESS


def test_a_transfer_that_its_owner_forgot_fails_and_deletes_nothing(north: North, south: South, bag: Path) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "store")
    with north.sessions.begin() as session:
        session.delete(session.get_one(ReplicationTransfer, transfer.replication_id))
    ended = south.settle(item)
    south.settle_all()
    assert ended.status == Status.FAILED
    assert "does not know" in ended.note
    assert list((south.settings.staging.volumes["main"] / "quarantine").rglob("*.tar"))


def test_a_transfer_from_a_node_that_we_do_not_know_waits_for_an_operator(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag).change(from_node="stranger", replication_id=str(uuid.uuid4()))
    item = south.request(transfer)
    south.run_due()
    waiting = south.item(item)
    assert (waiting.status, waiting.needs_attention) == (Status.PENDING, True)
    assert "peers.stranger" in waiting.note


def test_a_transfer_to_somebody_else_is_refused(north: North, south: South, bag: Path) -> None:
    transfer = north.deposit(bag)
    with north.sessions.begin() as session:
        session.get_one(ReplicationTransfer, transfer.replication_id).to_node = "west"
    item = south.settle(south.request(transfer))
    assert item.status == Status.FAILED
    assert "addressed to west" in item.note
    with reading(south.sessions) as session:
        assert session.query(WorkItem).count() == 2, "the replication and what we owe its owner"


def test_workers_that_were_killed_before_do_not_make_an_owner_s_first_mistake_its_last(
    north: North, south: South, bag: Path
) -> None:
    """Each run that died is an attempt, but says nothing of the file's size."""
    transfer = north.deposit(bag)
    whole = bag.read_bytes()
    item = south.request(transfer)
    with south.sessions.begin() as session:
        session.get_one(WorkItem, item).attempts = 5
    (north.outbound / bag.name).write_bytes(whole[:-512])
    south.run_due()
    assert south.item(item).status == Status.PENDING
    (north.outbound / bag.name).write_bytes(whole)
    assert south.settle(item).status == Status.SUCCESS


@pytest.mark.parametrize(
    "damage",
    [lambda tar: b"\0" * len(tar), lambda tar: tar.replace(b"manifest-sha256.txt\n", b"manifest-sha256.tXt\n")],
)
def test_a_tar_that_has_its_size_before_its_content_is_not_refused_for_that(
    north: North, south: South, bag: Path, damage: Callable[[bytes], bytes]
) -> None:
    """A wrong fixity that was sent would be refused for good."""
    transfer = north.deposit(bag)
    whole = bag.read_bytes()
    (north.outbound / bag.name).write_bytes(damage(whole))
    item = south.request(transfer)
    south.run_due()
    assert south.item(item).status == Status.PENDING, south.item(item).note
    assert north.transfer(transfer.replication_id).fixity_value is None
    (north.outbound / bag.name).write_bytes(whole)
    assert south.settle(item).status == Status.SUCCESS


class Refuses:
    """An owner that refuses one kind of read."""

    def __init__(self, client: object, call: str, status: int) -> None:
        self.client, self.call, self.status = client, call, status

    def __getattr__(self, name: str) -> object:
        def refuse(*_: object) -> None:
            raise PeerRefused("north", self.status, "no")

        return refuse if name == self.call else getattr(self.client, name)


@pytest.mark.parametrize(("call", "status"), [("get_bag", 404), ("get_bag", 400), ("get_transfer", 400)])
def test_a_read_that_is_refused_gives_no_transfer_up(
    north: North, south: South, bag: Path, call: str, status: int
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    willing = south.clients["north"]
    south.clients["north"] = Refuses(willing, call, status)  # type: ignore[assignment]
    south.run_due()
    assert (south.item(item).status, south.item(item).attempts) == (Status.PENDING, 1)
    south.clients["north"] = willing
    assert south.settle(item).status == Status.SUCCESS
    assert not north.transfer(transfer.replication_id).cancelled


def test_a_staged_bag_whose_tag_manifest_rots_is_copied_anew_not_refused(
    north: North, south: South, bag: Path
) -> None:
    transfer = north.deposit(bag)
    item = south.request(transfer)
    south.settle(item, until=lambda row: row.stage == "validate")
    staged = south.manifest(item).staged
    assert staged is not None
    path = south.staging.path_of(staged)
    path.write_bytes(path.read_bytes().replace(b"  dpn-tags/dpn-info.txt", b"  dpn-tags/dpn-info.tXt"))
    south.run_due()
    assert south.item(item).stage == "copy", south.item(item).note
    assert south.settle(item).status == Status.SUCCESS
    assert north.transfer(transfer.replication_id).stored


def test_an_owner_that_asks_to_store_without_our_fixity_gets_none_of_its_bag_stored(
    north: North, south: South, bag: Path
) -> None:
    class Careless(Refuses):
        def put_transfer(self, record):  # type: ignore[no-untyped-def]
            return record.change(fixity_value=None, store_requested=True)

    item = south.request(north.deposit(bag))
    south.clients["north"] = Careless(south.clients["north"], "", 0)  # type: ignore[assignment]
    for _ in range(5):
        south.run_due()
        south.clock.advance(3600)
    assert (south.item(item).stage, south.item(item).status) == ("copy", Status.PENDING)
    assert not (Path(south.settings.store.url.removeprefix("file://")) / bag.name).exists()
