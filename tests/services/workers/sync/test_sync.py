"""dpn_sync, from real servers on sockets into a real database: misses nothing, and nothing holds up the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from dpn.database import open_sessions
from dpn.registry import catalogue
from dpn.registry.catalogue import BAGS, DIGESTS, FIXITY_CHECKS, INGESTS, MEMBERS, RESTORES, TRANSFERS, Applied
from models.base import Base
from models.registry import SyncMark
from tests.fixtures.nasty.peer import Nasty
from tests.fixtures.records import LONG_AGO, OTHER_DIGEST, a_bag, a_digest, a_transfer, uuid
from tests.fixtures.sync_network import (
    KINDS_OF_NORTH,
    ONE_OF_EACH,
    Us,
    a_check,
    a_restore,
    an_ingest,
    network,
)
from workers.sync import sync as sync_module
from workers.sync.handovers import ask_former_admins
from workers.sync.peer_round import Quota


@pytest.fixture
def us(database_url: str, tmp_path: Path) -> Iterator[Us]:
    """With the peer north, on SQLite and on PostgreSQL."""
    with network(database_url, tmp_path, "north") as found:
        yield found


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Us]:
    """With the peer north, on SQLite: for what does not depend on the database."""
    with network(f"sqlite:///{tmp_path / 'south.db'}", tmp_path, "north") as found:
        yield found


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not come to be"
        time.sleep(0.01)


def later(**more: float) -> Any:
    """A time after everything that was read."""
    return LONG_AGO + timedelta(**more)


def test_every_kind_of_record_comes_over_as_its_owner_has_it(us: Us) -> None:
    us.peers["north"].show(*ONE_OF_EACH)
    result = us.sync()["north"]
    assert result.ok, result
    for kind, wanted in zip(
        (MEMBERS, BAGS, DIGESTS, INGESTS, FIXITY_CHECKS, TRANSFERS, RESTORES), ONE_OF_EACH, strict=True
    ):
        assert us.has(kind) == [wanted]
    assert set(result.types) == KINDS_OF_NORTH | {"node"}
    assert us.aside() == {}


def test_what_was_read_before_is_read_again_and_changes_nothing(us: Us) -> None:
    us.peers["north"].show(*ONE_OF_EACH)
    us.sync()
    again = us.sync(full=True)["north"]
    assert again.ok
    assert sum(one.added + one.updated for one in again.types.values()) == 0
    assert again.types["replicate"].fetched == 1


def test_lists_that_have_not_changed_are_not_read(us: Us) -> None:
    north = us.peers["north"]
    north.show(*ONE_OF_EACH)
    us.sync()
    north.front.seen.clear()
    again = us.sync()["north"]
    assert {name for name, one in again.types.items() if one.nothing_new} == KINDS_OF_NORTH
    assert len(north.front.seen) == 1 + len(KINDS_OF_NORTH), "its node, and one question a list"


def test_one_list_that_has_changed_is_read_from_a_little_before_its_mark(quick: Us) -> None:
    north = quick.peers["north"]
    north.show(*ONE_OF_EACH)
    quick.sync()
    changed = a_transfer().change(fixity_value=OTHER_DIGEST, updated_at=later(hours=1))
    north.show(changed)
    north.front.seen.clear()
    again = quick.sync()["north"]
    assert quick.has(TRANSFERS) == [changed]
    assert again.types["bag D"].nothing_new
    assert not again.types["replicate"].nothing_new
    assert any("after=2022-12-31T23%3A50%3A00Z" in path for path in north.asked("/replicate/"))


def test_marks_are_the_peers_stamps_and_never_ahead_of_us(quick: Us) -> None:
    quick.peers["north"].show(a_bag(), a_bag(2, updated_at=later(days=36500)))
    quick.sync()
    assert quick.mark("bag D").high_water == quick.clock.now()
    assert quick.mark("member").high_water is None


def test_what_a_peer_stamps_after_its_fast_clock_was_put_right_is_read(quick: Us) -> None:
    now = quick.clock.now()
    north = quick.peers["north"]
    north.show(a_bag(1, updated_at=now + timedelta(hours=1)))
    quick.sync()
    north.show(a_bag(2, updated_at=now))
    quick.sync()
    assert len(quick.has(BAGS)) == 2


def test_a_transfer_of_a_bag_that_is_not_here_is_set_aside_and_comes_in_with_the_bag(us: Us) -> None:
    north = us.peers["north"]
    north.show(a_bag(), a_transfer(), a_restore())
    north.front.answers["/api-v2/bag/"] = {"count": 0, "next": None, "previous": None, "results": []}
    first = us.sync()["north"]
    assert first.set_aside == 2
    assert set(us.aside().values()) == {f"bag {uuid(1)} is not known here"}
    assert first.types["replicate"].refused_by == {"404": 1}
    north.front.answers.clear()
    second = us.sync(full=True)["north"]
    assert (second.set_aside, us.aside()) == (0, {})
    assert len(us.has(TRANSFERS)) == len(us.has(RESTORES)) == 1


def test_what_waits_comes_in_although_its_own_list_is_not_read_again(us: Us) -> None:
    north = us.peers["north"]
    north.show(a_bag(9), a_transfer(bag=9))
    north.front.answers["/api-v2/bag/"] = {"count": 0, "next": None, "previous": None, "results": []}
    us.sync()
    north.front.answers.clear()
    with us.sessions.begin() as session:
        for mark in session.scalars(select(SyncMark).where(SyncMark.record_type.like("bag %"))):
            mark.list_state = None
    second = us.sync()["north"]
    assert second.types["replicate"].nothing_new
    assert second.types["set aside"].added == 1
    assert len(us.has(TRANSFERS)) == 1


def test_records_of_a_bag_that_another_peer_brings_come_in_within_one_round(tmp_path: Path) -> None:
    with network(f"sqlite:///{tmp_path / 'south.db'}", tmp_path, "north", "west") as us:
        of_west = a_bag(5, admin_node="west", ingest_node="west", replicating_nodes=("west", "north"))
        us.peers["north"].show(of_west, a_check(bag=5))
        us.peers["west"].show(of_west)
        real = us.peers["west"].front.well

        def when_north_is_done(seen: Any) -> tuple[int, bytes]:
            if "/bag/" in seen.path:
                wait_for(lambda: us.has_mark("restore"))
            return real(seen)

        us.peers["west"].front.well = when_north_is_done  # type: ignore[method-assign]
        us.sync()
        assert us.has(FIXITY_CHECKS) == [a_check(bag=5)]
        assert us.aside() == {}


def test_a_bad_record_is_set_aside_with_its_reason_and_blocks_nothing(us: Us) -> None:
    north = us.peers["north"]
    bags = [a_bag(number) for number in range(1, 6)]
    north.show(*bags, a_digest(3))
    rows = [bag.to_wire() for bag in bags]
    rows[1]["size"] = "rather large"
    rows[3]["admin_node"] = "west"
    north.front.answers["/api-v2/bag/?admin_node=north&bag_type=D&order_by=updated_at&page_size=100&page=1"] = {
        "count": 5, "next": None, "previous": None, "results": rows,
    }  # fmt: skip
    result = us.sync()["north"]
    assert [bag.uuid for bag in us.has(BAGS)] == [uuid(1), uuid(3), uuid(5)]
    assert len(us.has(DIGESTS)) == 1
    assert result.types["bag D"].refused_by == {"no record": 1, "not asked for": 1}
    (reason,) = us.aside().values()
    assert "size" in reason
    said = [line for line in us.logs if line["event"] == "records refused"]
    assert [(line["log_level"], line["type"], line["refused"]) for line in said] == [("warning", "bag D", 2)]


def test_a_kind_that_fails_stops_no_other_and_is_said(us: Us) -> None:
    north = us.peers["north"]
    north.show(*ONE_OF_EACH)
    north.front.behave(Nasty.ERROR_500, path="/ingest/")
    result = us.sync()["north"]
    assert (result.ok, result.failed_types) == (False, ["ingest"])
    assert "HTTP 500" in str(result.types["ingest"].error)
    assert len(us.has(RESTORES)) == 1
    north.front.behave(Nasty.WELL)
    assert us.sync()["north"].ok
    assert us.has(INGESTS) == [an_ingest()]


def test_what_refers_to_bags_is_not_read_before_bags_could_be(quick: Us) -> None:
    north = quick.peers["north"]
    north.show(*ONE_OF_EACH)
    north.front.behave(Nasty.ERROR_500, path="/bag/")
    result = quick.sync()["north"]
    assert quick.aside() == {}
    assert not north.asked("/replicate/")
    assert str(result.types["replicate"].error).startswith("not read before bag I")
    north.front.behave(Nasty.WELL)
    quick.sync()
    north.show(a_transfer(2))
    north.front.behave(Nasty.ERROR_500, path="/bag/")
    quick.sync()
    assert len(quick.has(TRANSFERS)) == 2, "once they have been read, a failure holds up nothing"


def test_pages_before_the_one_that_fails_are_kept(quick: Us) -> None:
    north = quick.peers["north"]
    north.show(*[a_bag(number, updated_at=LONG_AGO + timedelta(minutes=number)) for number in range(1, 251)])
    real = north.front.well

    def breaks_off(seen: Any) -> tuple[int, bytes]:
        return (500, b"") if "page_size=100" in seen.path and "before=" in seen.path else real(seen)

    north.front.well = breaks_off  # type: ignore[method-assign]
    result = quick.sync()["north"]
    assert result.types["bag D"].error
    assert len(quick.has(BAGS)) == 100
    north.front.well = real  # type: ignore[method-assign]
    assert quick.sync()["north"].ok
    assert len(quick.has(BAGS)) == 250


def test_a_list_that_is_short_moves_no_mark_and_what_was_missing_is_found(quick: Us) -> None:
    """What did not show may have any stamp: were the mark beyond it, it would never be read."""
    north, missing = quick.peers["north"], a_bag(3, updated_at=later(hours=1))
    north.show(a_bag(2, updated_at=later(days=9)), a_digest(bag=2))
    real = north.front.well

    def counts_one_too_many(seen: Any) -> tuple[int, bytes]:
        status, body = real(seen)
        if "/bag/" not in seen.path or "bag_type=D" not in seen.path:
            return status, body
        page = json.loads(body)
        return status, json.dumps(page | {"count": page["count"] + 1}).encode()

    north.front.well = counts_one_too_many  # type: ignore[method-assign]
    result = quick.sync()["north"]
    assert "is short" in str(result.types["bag D"].error)
    assert (len(quick.has(BAGS)), len(quick.has(DIGESTS))) == (1, 1), "what shows is taken"
    assert not quick.has_mark("bag D")
    north.front.well = real  # type: ignore[method-assign]
    north.show(missing)
    assert quick.sync()["north"].ok
    assert missing in quick.has(BAGS)


def test_a_dead_peer_and_one_that_hangs_delay_no_other_and_end_within_their_limits(tmp_path: Path) -> None:
    with network(f"sqlite:///{tmp_path / 'south.db'}", tmp_path, "north", "west") as us:
        us.peers["north"].show(*ONE_OF_EACH)
        us.peers["west"].front.behave(Nasty.HANGS)
        us.total_timeout_seconds = 1.0
        results = us.sync()
        assert results["north"].ok
        assert "does not answer in time" in str(results["west"].error)
        assert len(us.peers["west"].front.seen) == 1, "a peer that hangs is asked once, not once a kind"


def test_a_peer_that_takes_too_long_is_left_for_the_next_round(quick: Us, monkeypatch: pytest.MonkeyPatch) -> None:
    north = quick.peers["north"]
    north.show(*ONE_OF_EACH)
    monkeypatch.setattr(sync_module, "SECONDS_A_PEER", -1.0)
    result = quick.sync()["north"]
    assert "--node north" in str(result.error)
    assert not quick.has_mark("restore")
    assert quick.sync(only="north")["north"].ok, "who asks for one node waits for it"


@pytest.mark.parametrize("quota", [Quota(1_000, 2**40), Quota(10**9, 500_000)], ids=["records", "bytes"])
def test_a_round_takes_no_more_that_is_new_of_a_peer_than_its_quota_and_says_so(
    quick: Us, monkeypatch: pytest.MonkeyPatch, quota: Quota
) -> None:
    """The next round goes on where there is more: what is here already is not counted again."""
    monkeypatch.setattr(sync_module, "QUOTA", quota)
    quick.peers["north"].show(*[a_bag(number) for number in range(1, 3_500)])
    taken = []
    for _ in range(2):
        result = quick.sync()["north"]
        assert "`dpn sync --node north` reads it whole" in str(result.error)
        assert any(line["event"] == "a peer shows more new records than one round takes" for line in quick.logs)
        taken.append(len(quick.has(BAGS)))
    assert 0 < taken[0] < taken[1] <= 3_500
    assert quick.sync(only="north")["north"].ok
    assert len(quick.has(BAGS)) == 3_499


def test_what_has_to_be_set_aside_counts_for_the_quota_too(quick: Us, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "QUOTA", Quota(20, 2**40))
    rows = [a_bag(number).to_wire() | {"size": "rather large"} for number in range(1, 31)]
    quick.peers["north"].show(*[a_bag(number) for number in range(1, 31)])
    quick.peers["north"].front.answers[
        "/api-v2/bag/?admin_node=north&bag_type=D&order_by=updated_at&page_size=100&page=1"
    ] = {"count": 30, "next": None, "previous": None, "results": rows}
    assert "shows more that is new than one round takes: 30 records" in str(quick.sync()["north"].error)


def test_the_time_of_a_round_is_looked_at_with_each_page(quick: Us, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that takes its time for each page, of which a thousand make a batch."""
    north = quick.peers["north"]
    north.show(*[a_bag(number) for number in range(1, 801)])
    began = quick.clock.monotonic()

    def passing() -> float:
        pages = [path for path in north.asked("/bag/") if "page_size=100" in path]
        return began + sync_module.SECONDS_A_PEER * len(pages) / 3

    monkeypatch.setattr(quick.clock, "monotonic", passing)
    assert "takes longer than a round" in str(quick.sync()["north"].error)
    assert len([path for path in north.asked("/bag/") if "page_size=100" in path]) <= 4


def test_no_claim_of_a_peers_has_others_asked_once_its_time_is_over(quick: Us) -> None:
    asked = ask_former_admins("north", quick.clients(), quick.sessions, lambda: True)
    assert (asked, quick.peers["north"].asked("/bag/")) == (Applied(), [])


def test_a_peer_writes_nothing_that_is_anothers(us: Us) -> None:
    mine = a_bag(7, admin_node="west", ingest_node="west", replicating_nodes=("west",))
    with us.sessions.begin() as session:
        catalogue.apply_from_peer(session, "west", [mine])
    stolen = mine.change(size=1, admin_node="north", updated_at=later(hours=1))
    us.peers["north"].show(stolen, a_transfer(bag=7))
    result = us.sync()["north"]
    assert us.has(BAGS) == [mine]
    assert us.has(TRANSFERS) == []
    assert set(result.types["bag D"].refused_by) <= {"403", "409"}
    assert set(us.aside()) == {uuid(7), uuid(0x1001)}


def test_that_two_nodes_claim_one_record_is_told_as_an_error_that_names_both(quick: Us) -> None:
    west = {"admin_node": "west", "ingest_node": "west", "replicating_nodes": ("west",)}
    with quick.sessions.begin() as session:
        catalogue.apply_from_peer(session, "west", [a_bag(7, **west)])
    quick.peers["north"].show(a_bag(7, size=1))
    quick.sync()
    told = [line for line in quick.logs if line["event"] == "two nodes claim one record"]
    assert [(line["log_level"], line["peer"], line["first"]) for line in told] == [
        ("error", "north", {uuid(7): "west"})
    ]


def test_a_round_killed_at_any_commit_is_made_good_by_the_next(tmp_path: Path) -> None:
    class Death(BaseException):
        pass

    with network(f"sqlite:///{tmp_path / 'south.db'}", tmp_path, "north") as us:
        us.peers["north"].show(*ONE_OF_EACH, a_bag(99, admin_node="west"), a_transfer(2, bag=99))
        clean = Base.metadata.sorted_tables
        died = 0
        for at in range(1, 60, 3):
            with us.sessions.begin() as session:
                engine = session.get_bind()
            assert isinstance(engine, Engine)
            mortal, seen = open_sessions(engine), 0

            def die(_session: Any, at: int = at) -> None:
                nonlocal seen
                seen += 1
                if seen == at:
                    raise Death

            event.listen(mortal, "before_commit", die)
            try:
                us.sync(sessions=mortal)
            except Death:
                died += 1
            assert us.sync()["north"].ok
            assert [len(us.has(kind)) for kind in (BAGS, DIGESTS, TRANSFERS, RESTORES)] == [1, 1, 1, 1]
            assert list(us.aside()) == [uuid(0x1002)]
            if seen < at:
                break
            with us.sessions.begin() as session:
                for table in reversed(clean):
                    if table.name != "nodes":
                        session.execute(table.delete())
        assert died > 4


def test_more_than_can_be_set_aside_makes_the_next_round_read_all_again(
    quick: Us, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpn.registry.catalogue.aside.MAX_ROWS", 3)
    north = quick.peers["north"]
    north.show(*[a_bag(number) for number in range(1, 9)])
    north.show(*[a_transfer(number, bag=number) for number in range(1, 9)])
    north.front.answers["/api-v2/bag/"] = {"count": 0, "next": None, "previous": None, "results": []}
    quick.sync()
    assert len(quick.aside()) == 3
    assert any(line["event"].startswith("too much is set aside") for line in quick.logs)
    north.front.answers.clear()
    quick.sync()
    assert (len(quick.has(TRANSFERS)), quick.aside()) == (8, {})


def test_the_result_is_json_and_one_line_a_node_in_the_log(quick: Us) -> None:
    quick.peers["north"].show(*ONE_OF_EACH)
    quick.sync()
    (line,) = [line for line in quick.logs if line["event"] == "sync of a node"]
    assert line["ok"]
    assert line["types"]["bag D"] == {"fetched": 1, "added": 1}
    assert json.dumps(line)
