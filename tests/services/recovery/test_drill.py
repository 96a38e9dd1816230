"""Restore drills: what is drawn, that no two run at once, what is told of them; and all with real workers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from dpn.clock import SystemClock
from dpn.database import reading
from dpn.recovery.drills import PROOFS_AT_ONCE, Drilling, begin_drill
from dpn.recovery.requests import state
from dpn.registry.catalogue import BAGS, DIGESTS, FIXITY_CHECKS, RESTORES, TRANSFERS, batches
from dpn.registry.catalogue.rows import save
from models.manifests import CheckManifest, RecoveryManifest
from models.preservation import DrilledBag, FixityHour, StoredCopy
from models.work import Status, WorkItem
from tests.fixtures.records import a_bag, a_digest, a_transfer, uuid
from tests.services.recovery.asking import Asking
from workers.pipelines import PIPELINES


@pytest.fixture(params=["sqlite", "postgresql"])
def north(request: pytest.FixtureRequest) -> Asking:
    name = "asking" if request.param == "sqlite" else "asking_on_postgresql"
    made: Asking = request.getfixturevalue(name)
    return made


def drill(north: Asking, *words: str, code: int = 0) -> dict[str, Any]:
    done = north.dpn("drill", *words, "--json")
    assert done.code == code, done
    return done.said


def begun(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["source"]: one for one in said["drill"]["begun"]}


def tallies(said: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """Asked, good, bad, waiting."""
    return {one["source"]: (one["asked"], one["good"], one["bad"], one["waiting"]) for one in said["report"]}


def items(north: Asking) -> list[WorkItem]:
    with reading(north.registry.sessions) as session:
        return list(session.scalars(select(WorkItem).order_by(WorkItem.id)))


def end(north: Asking, item: int, status: Status) -> None:
    with north.registry.sessions.begin() as session:
        session.execute(update(WorkItem).where(WorkItem.id == item).values(status=status, note="the note"))


def ago(north: Asking, **time: float) -> None:
    """All drills began so long ago."""
    at = datetime.now(UTC) - timedelta(**time)
    with north.registry.sessions.begin() as session:
        session.execute(update(DrilledBag).values(begun_at=at))


def known(north: Asking, count: int, *holders: str, digest: bool = True) -> list[str]:
    """Bags that these nodes hold as our registry has it."""
    numbers = range(100, 100 + count)
    with north.registry.sessions.begin() as session:
        save(session, BAGS, [a_bag(number, replicating_nodes=("north", *holders)) for number in numbers])
        if digest:
            save(session, DIGESTS, [a_digest(number) for number in numbers])
    return [uuid(number) for number in numbers]


# -- what is drawn ------------------------------------------------------------------------------------------------


def test_a_drill_makes_an_item_for_each_bag_that_goes_through_the_real_pipelines(north: Asking) -> None:
    kept = {north.a_bag() for _ in range(3)}
    for bag in kept:
        north.keep(bag)
    one = begun(drill(north, "--sample", "2"))
    assert set(one) == {"store:main", "peer:south", "peer:west"}
    assert (len(one["store:main"]["bags"]), len(one["peer:south"]["bags"])) == (2, 2)
    assert one["peer:west"]["bags"] == [], "it holds nothing"
    manifests = {item.id: item.manifest for item in items(north)}
    for item, bag in zip(one["store:main"]["items"], one["store:main"]["bags"], strict=True):
        check = CheckManifest.read(manifests[item])
        assert (check.copied.bag, check.away) == (bag, True)
    for item, bag in zip(one["peer:south"]["items"], one["peer:south"]["bags"], strict=True):
        wanted = RecoveryManifest.read(manifests[item])
        assert (wanted.bag, wanted.only_node, wanted.purpose) == (bag, "south", "drill")
        assert wanted.size == north.tars[bag].stat().st_size
    with reading(north.registry.sessions) as session:
        being_checked = session.scalars(select(StoredCopy.bag).where(StoredCopy.begun_at.is_not(None))).all()
        assert session.scalars(select(FixityHour.checks)).all() == [2], "it counts for the limits"
    assert set(being_checked) == set(one["store:main"]["bags"])


def test_the_same_seed_draws_the_same_bags_and_another_one_others(north: Asking) -> None:
    known(north, 500, "south", "west")
    first = begun(drill(north, "--sample", "5", "--seed", "7", "--from", "south"))
    assert set(first) == {"peer:south"}
    for item in first["peer:south"]["items"]:
        end(north, item, Status.SUCCESS)
    again = begun(drill(north, "--sample", "5", "--seed", "7", "--from", "south", "--from", "west"))
    assert again["peer:south"]["bags"] == first["peer:south"]["bags"]
    assert again["peer:west"]["bags"] != first["peer:south"]["bags"]
    for item in again["peer:south"]["items"]:
        end(north, item, Status.SUCCESS)
    assert (
        begun(drill(north, "--sample", "5", "--from", "south"))["peer:south"]["bags"]
        != first["peer:south"]["bags"]
    )


def test_bags_that_cannot_be_proven_or_are_known_to_be_bad_or_being_read_are_not_drawn(north: Asking) -> None:
    known(north, 3, "south", digest=False)
    good, bad, busy = (north.a_bag(replicating_nodes=("north",)) for _ in range(3))
    for bag in (good, bad, busy):
        north.keep(bag)
    with north.registry.sessions.begin() as session:
        session.execute(update(StoredCopy).where(StoredCopy.bag == bad).values(outcome="bad"))
    drill(north, "--sample", "1", "--from", "store")
    with north.registry.sessions.begin() as session:
        session.execute(update(DrilledBag).values(source="store:another"))
    one = begun(drill(north, "--sample", "9"))
    assert one["peer:south"]["bags"] == []
    assert len(one["store:main"]["bags"]) == 1
    assert bad not in one["store:main"]["bags"]


def test_a_drill_reads_no_more_of_a_large_registry_than_of_a_small_one(asking: Asking) -> None:
    known(asking, 2000, "south")
    with reading(asking.registry.sessions) as session:
        plan = session.connection().exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT bag FROM bag_replicas WHERE node = 'south' AND bag >= 'a' "
            "AND EXISTS (SELECT * FROM message_digests d WHERE d.bag = bag_replicas.bag AND algorithm = 'sha256') "
            "ORDER BY bag LIMIT 64"
        )
        lines = [row[3] for row in plan]
    assert any("ix_bag_replicas_node_bag (node=? AND bag>?)" in line for line in lines), lines
    assert not any("SCAN" in line or "TEMP B-TREE" in line for line in lines), lines


# -- double runs and reports --------------------------------------------------------------------------------------


def test_a_source_whose_last_drill_is_open_is_left_alone_and_said(north: Asking) -> None:
    known(north, 10, "south", "west")
    first = begun(drill(north, "--sample", "2"))
    end(north, first["peer:west"]["items"][0], Status.SUCCESS)
    end(north, first["peer:west"]["items"][1], Status.CANCELLED)
    second = drill(north, "--sample", "2")
    assert "has not ended" in begun(second)["peer:south"]["skipped"]
    assert len(begun(second)["peer:west"]["bags"]) == 2
    assert len(items(north)) == 6
    assert tallies(second) == {"peer:south": (2, 0, 0, 2), "peer:west": (2, 1, 0, 0)}


def test_each_new_copy_at_a_peer_is_drilled_once(north: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def queue(days: float) -> int:
        monkeypatch.setenv("DPN_RECOVERY__PROVE_WITHIN_DAYS", str(days))
        done = north.dpn("queue", "--json")
        assert done.code == 0, done
        return int(done.said["proofs_begun"])

    def stored(numbers: range, peer: str, days_ago: float, **more: Any) -> None:
        at = datetime.now(UTC) - timedelta(days=days_ago)
        done = {"fixity_value": "0" * 64, "store_requested": True, "stored": True, **more}
        transfers = [
            a_transfer(number, number, to_node=peer, created_at=at, updated_at=at, **done) for number in numbers
        ]
        with north.registry.sessions.begin() as session:
            save(session, TRANSFERS, transfers)

    known(north, 20, "south", "west", "stranger")
    stored(range(100, 112), "south", 2)
    stored(range(112, 114), "south", 30)
    stored(range(114, 115), "south", 2, stored=False)
    stored(range(115, 116), "west", 2)
    stored(range(116, 117), "stranger", 2)
    assert queue(0) == 0, "off by default"
    assert queue(20) == PROOFS_AT_ONCE + 1
    drilled = [RecoveryManifest.read(item.manifest) for item in items(north)]
    assert [(one.only_node, one.bag) for one in drilled if one.only_node != "south"] == [("west", uuid(115))]
    assert queue(20) == 0, "no more at once"
    for item in items(north):
        end(north, item.id, Status.SUCCESS)
    assert queue(20) == 12 - PROOFS_AT_ONCE
    assert queue(20) == 0, "each once"
    bags = {RecoveryManifest.read(item.manifest).bag for item in items(north)}
    assert bags == {uuid(number) for number in (*range(100, 112), 115)}


def test_two_drills_at_once_begin_one(north: Asking) -> None:
    known(north, 50, "south")
    words = ("drill", "--sample", "3", "--from", "south", "--json")
    both = [north.start(*words) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert len(items(north)) == 3


def test_a_drill_waits_for_one_that_is_about_to_begin(asking_on_postgresql: Asking) -> None:
    north = asking_on_postgresql
    known(north, 50, "south")
    clock = SystemClock()
    drilling = Drilling(uuid(1), "somebody", PIPELINES, clock, clock.now())
    with north.registry.sessions.begin() as session:
        begin_drill(session, drilling, ["peer:south"], sample=3, seed=1)
        other = north.start("drill", "--sample", "3", "--from", "south", "--json")
        north.wait_until_blocked(other, session)
    out, err = other.communicate(timeout=60)
    assert other.returncode == 0, err
    assert begun(json.loads(out))["peer:south"]["skipped"]
    assert len(items(north)) == 3


def test_each_end_is_told_once_by_drills_and_again_to_who_asks(north: Asking) -> None:
    known(north, 10, "south")
    made = begun(drill(north, "--sample", "3", "--from", "south"))["peer:south"]["items"]
    assert tallies(drill(north, "--report")) == {"peer:south": (3, 0, 0, 3)}
    end(north, made[0], Status.SUCCESS)
    end(north, made[1], Status.FAILED)
    assert tallies(drill(north, "--report", code=1)) == {"peer:south": (3, 1, 1, 1)}
    told = drill(north, "--sample", "1", "--from", "south", code=1)
    assert tallies(told) == {"peer:south": (3, 1, 1, 1)}
    assert [(one["item"], one["note"]) for one in told["bad"]] == [(made[1], "the note")]
    assert tallies(drill(north, "--sample", "1", "--from", "south")) == {"peer:south": (1, 0, 0, 1)}, "told once"
    assert tallies(drill(north, "--report", code=1)) == {"peer:south": (3, 1, 1, 1)}, "asked for, it is told again"


def test_what_waits_for_longer_than_an_answer_may_take_is_a_failure(north: Asking) -> None:
    known(north, 10, "south")
    drill(north, "--sample", "1", "--from", "south")
    ago(north, days=6.9)
    assert drill(north, "--report")["late"] == []
    ago(north, days=7.1)
    late = drill(north, "--report", code=1)
    assert len(late["late"]) == 1
    assert late["report"][0]["longest_wait_seconds"] == pytest.approx(7.1 * 86_400, abs=60)
    drill(north, "--sample", "1", "--from", "south", code=1)


def test_what_was_not_printed_was_not_told(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    known(asking, 10, "south")
    (item,) = begun(drill(asking, "--sample", "1", "--from", "south"))["peer:south"]["items"]
    end(asking, item, Status.FAILED)

    def broken(*_: object) -> None:
        raise BrokenPipeError

    with monkeypatch.context() as patched:
        patched.setattr("dpn.cli.fixity.drill._as_json", broken)
        with pytest.raises(BrokenPipeError):
            asking.dpn("drill", "--sample", "1", "--from", "south", "--json")
    assert tallies(drill(asking, "--sample", "1", "--from", "south", code=1))["peer:south"][2] == 1


def test_what_makes_no_sense_is_refused(asking: Asking) -> None:
    for words in ((), ("--sample", "1", "--report"), ("--sample", "1", "--from", "elsewhere")):
        assert asking.dpn("drill", *words).code == 2
    assert asking.dpn("drill", "--report").code == 0
    assert "No drill" in asking.dpn("drill", "--report").out
    done = asking.dpn("drill", "--sample", "1")
    assert (done.code, "it has no bags to draw" in done.out) == (0, True)


# -- with real workers --------------------------------------------------------------------------------------------


@contextmanager
def workers(north: Asking) -> Iterator[None]:
    """All of north's workers in one process."""
    text = north.config.read_text()
    work = "verdict_poll_seconds = 0.2\nsweep_seconds = 0.2\nbackoff_first_seconds = 0.2"
    quick = f"[broker]\npoll_seconds = 0.1\n[work]\n{work}\n[staging]"
    north.config.write_text(text.replace("[staging]", quick, 1))
    log = north.folder / "workers.log"
    with log.open("w") as file:
        process = north.start("worker", "all", log=file)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0, log.read_text()[-3000:]


def play_south(north: Asking, bad: set[str], seconds: float = 90) -> None:
    """Offers what south is asked for, until all that north does has ended; damages the bags in `bad` first."""
    deadline = time.monotonic() + seconds
    while any(not Status(item.status).is_final for item in items(north)):
        assert time.monotonic() < deadline, [(item.id, item.stage, item.note) for item in items(north)]
        with reading(north.registry.sessions) as session:
            asked = [one for batch in batches(session, RESTORES) for one in batch if state(one) == "requested"]
        for one in asked:
            content = north.tars[one.bag].read_bytes()
            north.offer(one.restore_id, content.replace(b"first\n", b"fixst\n") if one.bag in bad else content)
        time.sleep(0.2)


def test_a_drill_with_real_workers_proves_good_bags_and_finds_bad_ones(asking: Asking) -> None:
    bags = [asking.a_bag() for _ in range(3)]
    paths = {bag: Path(asking.keep(bag).url.removeprefix("file://")) for bag in bags}
    said = begun(drill(asking, "--sample", "3", "--from", "store", "--from", "south"))
    rotten_at_home, rotten_in_the_south = bags[0], bags[1]
    stored = paths[rotten_at_home]
    content = stored.read_bytes()
    stored.unlink()
    stored.write_bytes(content.replace(b"first\n", b"fixst\n"))
    with workers(asking):
        play_south(asking, {rotten_in_the_south})
    told = drill(asking, "--sample", "1", "--from", "store", "--from", "south", code=1)
    assert tallies(told) == {"store:main": (3, 2, 1, 0), "peer:south": (3, 2, 1, 0)}
    assert {(one["source"], one["bag"]) for one in told["bad"]} == {
        ("store:main", rotten_at_home),
        ("peer:south", rotten_in_the_south),
    }
    assert set(said) == {"store:main", "peer:south"}
    with reading(asking.registry.sessions) as session:
        checks = {one.bag: one.success for batch in batches(session, FIXITY_CHECKS) for one in batch}
        requests = {one.bag: state(one) for batch in batches(session, RESTORES) for one in batch}
    assert checks == {bag: bag != rotten_at_home for bag in bags}, "our own are fixity checks, too"
    assert requests == {bag: "cancelled" if bag == rotten_in_the_south else "finished" for bag in bags}
    volume = asking.folder / "staging"
    assert not list((volume / "items").rglob("*.tar")), "scratch space is left empty"
