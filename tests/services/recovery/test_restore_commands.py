"""A bag is asked for, offered, brought into a folder and proven there: real registry server, real rsync."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from dpn.bags import unpack
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.cli.restore import fetch
from dpn.database import insert_missing
from dpn.recovery import arrival, destination, requests
from dpn.recovery.requests import open_request, open_requests
from models.manifests import AskedNode, RecoveryManifest
from models.work import WorkItem
from tests.fixtures.made_bags import END, bag_files, members
from tests.fixtures.mortality import Killed, Life, mortal
from tests.fixtures.records import LONG_AGO
from tests.services.recovery.asking import Asking


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Asking:
    name = "asking" if request.param == "sqlite" else "asking_on_postgresql"
    made: Asking = request.getfixturevalue(name)
    return made


def test_a_bag_comes_back_from_the_request_to_the_folder_and_its_holder_knows(either: Asking) -> None:
    bag = either.a_bag()
    restore_id = either.request(bag)
    assert either.record(restore_id).from_node == "south"
    before = either.fetch(restore_id, "--json")
    assert (before.code, before.said["state"], before.said["brought"]) == (1, "requested", False)
    either.accept(restore_id)
    assert either.fetch(restore_id, "--json").said["state"] == "accepted"
    either.offer(restore_id)
    done = either.fetch(restore_id, "--json")
    assert (done.code, done.said["was_there"], done.said["finished"]) == (0, False, True)
    assert (either.out / f"{bag}.tar").read_bytes() == either.tars[bag].read_bytes()
    assert either.there() == {f"{bag}.tar"}
    assert either.record(restore_id).finished
    assert either.events(bag) == [
        ("copy requested", "pending"),
        ("transfer", "success"),
        ("validation", "success"),
    ]
    listed = [json.loads(line) for line in either.dpn("restore", "list", "--json").out.splitlines()]
    assert [(one["restore_id"], one["state"], one["item"]) for one in listed] == [(restore_id, "finished", None)]


def test_a_bag_is_found_by_its_uuid_and_can_be_had_unpacked(asking: Asking) -> None:
    bag = asking.a_bag()
    asking.offer(asking.request(bag.upper()))
    done = asking.fetch(bag, "--unpack")
    assert done.code == 0, done.err
    assert done.out == f"{asking.out / bag}\n"
    assert asking.there() == {bag}
    assert validate(asking.out / bag, profile=load_profile("dpn")).valid
    assert asking.fetch(bag, "--unpack").out == f"was there already: {asking.out / bag}\n"


def test_the_best_node_is_asked_and_none_twice(asking: Asking) -> None:
    bag = asking.a_bag(admin_node="west", ingest_node="west")
    done = asking.dpn("restore", "request", bag, "--json")
    assert done.said["from_node"] == "south"
    for words in ((), ("--from", "south")):
        again = asking.dpn("restore", "request", bag, *words)
        assert again.code == 2
        assert done.said["restore_id"] in again.err
    assert asking.dpn("restore", "request", bag, "--from", "west").code == 0
    assert "no [peers.east]" in asking.dpn("restore", "request", bag, "--from", "east").err
    assert "knows no peer" in asking.dpn("restore", "request", str(uuid4())).err
    unknown = asking.dpn("restore", "request", str(uuid4()), "--from", "south")
    assert unknown.code == 2
    assert "no such bag" in unknown.err
    assert asking.dpn("restore", "request", "what").code == 2


def test_of_two_requests_at_once_one_is_made(asking_on_postgresql: Asking) -> None:
    north, us = asking_on_postgresql, "north"
    bag = north.a_bag()
    with north.registry.sessions.begin() as session:
        assert open_requests(session, bag, us=us, lock=True) == []
        open_request(session, bag=bag, from_node="south", us=us, restore_id=str(uuid4()), now=LONG_AGO)
        other = north.start("restore", "request", bag, "--from", "south")
        north.wait_until_blocked(other, session)
    _, err = other.communicate(timeout=60)
    assert (other.returncode, "was asked for this bag already" in err) == (2, True)


def test_a_cancelled_request_says_why_on_either_side(asking: Asking) -> None:
    bag = asking.a_bag()
    first = asking.request(bag)
    asking.cancel(first, "we keep no copy\x1b[31m")
    done = asking.fetch(first)
    assert done.code == 1
    assert "reject: we keep no copy" in done.err
    assert "\x1b" not in asking.dpn("restore", "show", first).out
    assert "cancelled" in asking.dpn("restore", "list").out
    second = asking.request(bag)
    assert asking.dpn("restore", "cancel", second, "--reason", "not needed").code == 0
    assert asking.dpn("restore", "cancel", second, "--reason", "again").code == 0, "safe to repeat"
    assert asking.record(second).cancel_reason_detail == "not needed"
    assert asking.fetch(bag).code == 2, "nobody is asked any more"
    assert "dpn restore request" in asking.fetch(bag).err
    assert asking.dpn("restore", "cancel", str(uuid4()), "--reason", "x").code == 2


def test_waiting_ends_when_the_bag_is_offered(asking: Asking) -> None:
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    process = asking.start("restore", "fetch", restore_id, "--out", str(asking.out), "--wait", "60", "--json")
    time.sleep(0.5)
    assert process.poll() is None
    asking.offer(restore_id)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["brought"]


# -- what is there already ----------------------------------------------------------------------------------------


def test_the_same_bag_in_the_folder_is_said_and_another_file_is_never_overwritten(asking: Asking) -> None:
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    asking.offer(restore_id)
    target = asking.out / f"{bag}.tar"
    target.write_bytes(b"mine")
    done = asking.fetch(restore_id)
    assert done.code == 2
    assert "nothing was overwritten" in done.err
    assert target.read_bytes() == b"mine"
    assert not asking.record(restore_id).finished
    target.write_bytes(asking.tars[bag].read_bytes())
    done = asking.fetch(restore_id, "--json")
    assert (done.code, done.said["was_there"], done.said["finished"]) == (0, True, True)
    assert asking.record(restore_id).finished


def test_a_good_bag_that_lay_there_before_it_was_offered_leaves_the_request_open(asking: Asking) -> None:
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    (asking.out / f"{bag}.tar").write_bytes(asking.tars[bag].read_bytes())
    done = asking.fetch(restore_id, "--json")
    assert (done.code, done.said["finished"]) == (0, False)
    assert not asking.record(restore_id).is_final


def test_a_folder_that_is_not_there_is_told(asking: Asking) -> None:
    bag = asking.a_bag()
    asking.offer(asking.request(bag))
    done = asking.dpn("restore", "fetch", bag, "--out", str(asking.folder / "nowhere"))
    assert done.code == 2
    assert "is not a folder" in done.err


# -- hostile and broken holders -----------------------------------------------------------------------------------


def other_bag(bag: str) -> bytes:
    """A valid bag, under the name of another one."""
    return members(bag_files({"data/b": b"other"}, uuid=bag), bag) + END


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("flip", "invalid"),
        ("cut", "registered are"),
        ("another bag", "digest"),
        ("another bag, said to be itself", "says that it is bag"),
        ("no tar", "not readable as a bag"),
    ],
)
def test_what_is_not_the_bag_never_gets_its_name_and_its_holder_is_not_told_that_we_have_it(
    asking: Asking, how: str, word: str
) -> None:
    bag = asking.a_bag()
    content = asking.tars[bag].read_bytes()
    restore_id = asking.request(bag)
    asking.offer(
        restore_id,
        {
            "flip": content.replace(b"first\n", b"fixst\n"),
            "cut": content[:-2048],
            "another bag": other_bag(bag),
            "another bag, said to be itself": members(bag_files(uuid=str(uuid4())), bag) + END,
            "no tar": b"<html>",
        }[how],
    )
    done = asking.fetch(restore_id, "--json")
    assert (done.code, done.said["state"]) == (1, "bad")
    assert word in done.said["why"]
    assert f"{bag}.tar" not in asking.there()
    assert not asking.record(restore_id).finished
    assert asking.events(bag)[-1] == ("validation", "failure")
    asking.serve(bag, content)
    assert asking.fetch(restore_id).code == 0, "the right bytes come in the place of the wrong ones"
    assert asking.there() == {f"{bag}.tar"}


def test_no_more_comes_than_the_registered_size(asking: Asking) -> None:
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    asking.offer(restore_id, bytes(5_000_000))
    done = asking.fetch(restore_id)
    assert done.code == 1
    assert "expected" in done.err
    came = [path.stat().st_size for path in asking.out.rglob("*") if path.is_file()]
    assert sum(came) <= asking.tars[bag].stat().st_size


@pytest.mark.parametrize(
    ("link", "code"),
    [
        ("rsync://elsewhere.example.org/outbound/{bag}.tar", "link-host-not-allowed"),
        ("/etc/{bag}.tar", "link-local-path"),
        ("rsync://127.0.0.1:{port}/outbound/../{bag}.tar", "link-path-escape"),
        ("-e sh 127.0.0.1:{bag}.tar", "link-character"),
        ("rsync://127.0.0.1:{port}/outbound/passwd", "link-file-name"),
    ],
)
def test_a_link_that_leads_elsewhere_is_not_followed(asking: Asking, link: str, code: str) -> None:
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    port = asking.link_prefix.split(":")[2].split("/")[0]
    asking.offer(restore_id, link=link.format(bag=bag, port=port))
    done = asking.fetch(restore_id)
    assert done.code == 1
    assert code in done.err
    assert not any(asking.out.rglob("*.tar"))


def test_a_bag_without_a_registered_digest_is_not_taken_for_itself(asking: Asking) -> None:
    bag = asking.a_bag(digest=False)
    asking.offer(asking.request(bag))
    done = asking.fetch(bag)
    assert done.code == 1
    assert "no digest" in done.err


def test_a_payload_that_nothing_proves_is_taken_by_those_who_say_so(asking: Asking) -> None:
    bag = asking.a_bag(unlisted=True)
    asking.offer(asking.request(bag))
    done = asking.fetch(bag)
    assert done.code == 1
    assert "the registered digest does not prove the payload" in done.err
    assert "--unproven" in done.err
    assert f"{bag}.tar" not in asking.there()
    done = asking.fetch(bag, "--unproven")
    assert done.code == 0
    assert "only the bag's own manifest proves its payload" in done.err
    assert asking.there() == {f"{bag}.tar"}


def test_a_payload_that_nothing_else_proves_is_proven_by_our_own_copy(asking: Asking) -> None:
    bag = asking.a_bag(unlisted=True)
    asking.keep(bag)
    asking.offer(asking.request(bag))
    assert asking.fetch(bag, "--unpack").code == 0


def test_a_holder_that_has_taken_the_bag_away_again_is_told_and_may_put_it_back(asking: Asking) -> None:
    bag = asking.a_bag()
    asking.offer(asking.request(bag))
    (asking.offered / f"{bag}.tar").unlink()
    assert asking.fetch(bag).code == 1
    asking.serve(bag, asking.tars[bag].read_bytes())
    assert asking.fetch(bag).code == 0


# -- whatever dies ------------------------------------------------------------------------------------------------


def writing_to(destination: Path) -> list[int]:
    """The processes on whose command line it stands."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and os.fsencode(destination) in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_fetch_that_was_stopped_goes_on_with_what_came(asking: Asking, number: int) -> None:
    bag = asking.a_bag({"data/large": bytes(range(256)) * 60_000})
    restore_id = asking.request(bag)
    asking.offer(restore_id)
    config = asking.config.read_text()
    asking.config.write_text(config.replace("[transfer]", "[transfer]\nbandwidth_limit_kib = 4000"))
    process = asking.start("restore", "fetch", bag, "--out", str(asking.out))
    partial = asking.out / f".dpn-restore-{restore_id}" / f"{bag}.tar"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 1_000_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    rsync = writing_to(partial) if number == signal.SIGKILL else []
    for pid in rsync:
        os.kill(pid, signal.SIGSTOP)
    process.send_signal(number)
    if number == signal.SIGTERM:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "goes on with it" in err
    else:
        process.wait(30)
        assert rsync
        tried = asking.fetch(bag)
        for pid in rsync:
            os.kill(pid, signal.SIGCONT)
        assert "in use" in tried.err, "as long as rsync writes, nobody else does"
    assert asking.there() == {f".dpn-restore-{restore_id}"}
    asking.config.write_text(config)
    while "in use" in (done := asking.fetch(bag)).err:  # by rsync, for some seconds
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert done.code == 0
    assert (asking.out / f"{bag}.tar").read_bytes() == asking.tars[bag].read_bytes()
    assert asking.there() == {f"{bag}.tar"}


def test_a_command_that_died_before_it_told_the_holder_tells_it_the_next_time(asking, monkeypatch) -> None:
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    asking.offer(restore_id)

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("dpn.recovery.requests.finish", die)
        with pytest.raises(Killed):
            asking.fetch(bag)
    assert asking.there() == {f"{bag}.tar"}
    assert not asking.record(restore_id).finished
    assert asking.fetch(bag).code == 0
    assert asking.record(restore_id).finished


@pytest.mark.parametrize("words", [(), ("--unpack",)], ids=["tar", "unpacked"])
def test_wherever_it_dies_the_same_command_ends_in_the_same_state(asking, monkeypatch, words) -> None:
    bag = asking.a_bag()
    steps = [
        (arrival, "fetch"), (fetch, "judge_received"), (fetch, "unpack"), (unpack, "sync_folder"),
        (destination, "publish_new"), (destination, "sync_folder"), (destination.shutil, "rmtree"),
        (fetch, "record"), (requests, "put_restore"),
    ]  # fmt: skip
    for number in range(1, 100):
        restore_id = asking.request(bag)
        asking.offer(restore_id)
        life = Life(number)
        with monkeypatch.context() as patched, suppress(Killed):
            for module, name in steps:
                patched.setattr(module, name, mortal(getattr(module, name), name, life))
            asking.fetch(restore_id, *words)
        again = asking.fetch(restore_id, *words)
        assert again.code == 0, (life.moments, again)
        (target,) = asking.out.iterdir()
        assert validate(target, profile=load_profile("dpn")).valid, life.moments
        assert asking.record(restore_id).finished, life.moments
        shutil.rmtree(asking.out)
        if not life.has_ended:
            break
    assert set(life.moments) >= {"fetch", "judge_received", "sync_folder", "rmtree", "record", "put_restore"}
    assert number > 8


# -- requests of items --------------------------------------------------------------------------------------------


def test_a_request_that_an_item_made_is_left_to_the_item(either: Asking) -> None:
    asking = either
    bag = asking.a_bag()
    restore_id = asking.request(bag)
    asked = AskedNode(node="south", restore_id=restore_id, asked_at=LONG_AGO)
    manifest = RecoveryManifest(bag=bag, size=1, tag_manifest_sha256="ab", purpose="drill", asked=[asked])
    row = {
        "task": "recovery", "identifier": "x", "stage": "ask", "status": "pending", "attempts": 0, "note": "",
        "run_after": LONG_AGO, "lease_token": 0, "needs_attention": False, "created_at": LONG_AGO,
        "updated_at": LONG_AGO, "manifest": manifest.model_dump(mode="json"),
    }  # fmt: skip
    with asking.registry.sessions.begin() as session:
        insert_missing(session, WorkItem, [row])
    for words in (("fetch", bag, "--out", str(asking.out)), ("fetch", restore_id, "--out", str(asking.out)),
                  ("cancel", restore_id, "--reason", "x")):  # fmt: skip
        done = asking.dpn("restore", *words)
        assert done.code == 2
        assert "belongs to item 1" in done.err
    assert json.loads(asking.dpn("restore", "show", restore_id, "--json").out)["item"] == 1
    theirs = asking.request(bag, "west")
    asking.offer(restore_id)
    assert asking.fetch(bag, "--json").said["restore_id"] == theirs, "the free one is meant"
