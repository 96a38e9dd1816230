"""Pages of long lists: remembering changes nothing of what is shown, and who walks through misses no record."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from dpn.clock import ManualClock
from dpn.database import Sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    TRANSFERS,
    PageMemory,
    Query,
    Reader,
    apply_from_peer,
    ensure_nodes,
    find,
    list_page,
    page_memory,
    pages,
    put_transfer,
    state_of,
    totals,
)
from dpn.registry.catalogue.rows import save
from dpn.registry.records import BagRecord, ReplicationRecord
from dpn.registry.rules import Accepted, Caller
from tests.fixtures.records import LONG_AGO, a_bag, a_node, a_transfer, uuid
from tests.fixtures.registry import running_registry

TIMES = [LONG_AGO + timedelta(days=n) for n in range(4)]


@pytest.fixture(autouse=True)
def no_list_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every list were so long that its end is reached from its end, and its times leave out many."""
    monkeypatch.setattr(pages, "FEW", 0)


def keep(sessions: Sessions, *bags: BagRecord) -> None:
    with sessions.begin() as session:
        save(session, BAGS, bags)


def page(
    sessions: Sessions, query: Query, number: int, size: int, memory: PageMemory | None, name: str = "south"
) -> pages.RecordPage[BagRecord]:
    with reading(sessions) as session:
        reader = None if memory is None else Reader(name, state_of(session, BAGS), memory)
        return list_page(session, BAGS, query, number=number, size=size, reader=reader)


QUERIES = st.builds(
    Query,
    st.sampled_from([{}, {"admin_node": "north"}, {"bag_type": "D"}, {"replicated_by": ("west", "south")}]),
    st.sampled_from([None, *TIMES[:2]]),
    st.sampled_from([None, *TIMES]),
    st.sampled_from([(), ("updated_at",), ("created_at",), ("created_at", "updated_at")]),
)
WRITES = st.builds(
    a_bag,
    st.integers(1, 12),
    updated_at=st.sampled_from(TIMES),
    created_at=st.sampled_from(TIMES),
    admin_node=st.sampled_from(["north", "west"]),
    bag_type=st.sampled_from("DI"),
    size=st.integers(1, 100),
    replicating_nodes=st.sampled_from([("north",), ("north", "south"), ("west",)]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    queries=st.lists(QUERIES, min_size=1, max_size=3),
    steps=st.lists(
        st.one_of(
            WRITES, st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 4), st.sampled_from("ab"))
        ),
        max_size=30,
    ),
)
def test_pages_from_a_server_that_remembers_are_those_of_one_that_does_not(
    sessions: Sessions, queries: list[Query], steps: list[Any]
) -> None:
    """Whatever was written between them; only a page that follows at once goes on behind the one before."""
    clock = ManualClock()
    memory = PageMemory(clock.monotonic)
    with sessions.begin() as session:
        session.execute(delete(BAGS.table))
        totals.recount(session)
    for step in [*(a_bag(n, updated_at=TIMES[n % 3]) for n in range(1, 10)), *steps]:
        if isinstance(step, BagRecord):
            keep(sessions, step)
            clock.advance(pages.WALK_SECONDS)
            continue
        which, number, size, name = step
        query = queries[which % len(queries)]
        assert page(sessions, query, number, size, memory, name) == page(sessions, query, number, size, None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.lists(WRITES, max_size=3), min_size=1, max_size=10), size=st.integers(1, 3))
def test_who_walks_through_a_list_that_is_written_to_sees_all_that_stays_in_it(
    sessions: Sessions, writes: list[list[BagRecord]], size: int
) -> None:
    """Whatever leaves or joins the list before or behind the page."""
    memory = PageMemory(ManualClock().monotonic)
    query = Query({"admin_node": "north"}, order_by=("updated_at",))
    with sessions.begin() as session:
        session.execute(delete(BAGS.table))
        totals.recount(session)
    keep(sessions, *(a_bag(n, updated_at=TIMES[n % 4]) for n in range(1, 13)))
    changed = {bag.uuid for batch in writes for bag in batch}
    seen: set[str] = set()
    pending = iter(writes)
    for number in range(1, 40):
        listing = page(sessions, query, number, size, memory)
        seen |= {bag.uuid for bag in listing.records}
        if not listing.has_next:
            break
        for bag in next(pending, ()):
            keep(sessions, bag)
    assert seen >= {uuid(n) for n in range(1, 13)} - changed


def test_every_page_counts_what_was_just_written(sessions: Sessions) -> None:
    memory = PageMemory(ManualClock().monotonic)
    for n in range(1, 4):
        keep(sessions, a_bag(n))
        for number in (1, 2):
            listing = page(sessions, Query(), number, 1, memory)
            assert (listing.count, listing.total_size) == (n, n * a_bag().size)


def test_later_pages_of_a_long_list_repeat_its_count_for_a_moment_only(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LONG", 2)
    clock = ManualClock()
    memory = PageMemory(clock.monotonic)
    keep(sessions, a_bag(1), a_bag(2))
    assert page(sessions, Query(), 1, 1, memory).count == 2
    keep(sessions, a_bag(3, updated_at=LONG_AGO - timedelta(days=1)))
    listing = page(sessions, Query(), 2, 1, memory)
    assert (listing.count, listing.has_next) == (2, True), "whether there is more is never taken from such a count"
    clock.advance(pages.STALE_SECONDS)
    assert page(sessions, Query(), 2, 1, memory).count == 3
    keep(sessions, a_bag(4))
    assert page(sessions, Query(), 1, 1, memory).count == 4, "a first page counts what was just written"


def test_a_walk_costs_one_count(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """By page numbers; by the time at which the page before ended, only what lies between the ends is counted."""
    counted: list[tuple[Any, Any]] = []
    count = pages._Page.count_between

    def watched(self: Any, **between: Any) -> tuple[int, int]:
        counted.append((between.get("later_than"), between.get("until")))
        return count(self, **between)

    monkeypatch.setattr(pages._Page, "count_between", watched)
    memory = PageMemory(ManualClock().monotonic)
    keep(sessions, *(a_bag(n, updated_at=TIMES[n % 4]) for n in range(1, 9)))
    by_member = Query({"member": a_bag().member}, order_by=("updated_at",))
    assert [page(sessions, by_member, n, 2, memory).count for n in (1, 2, 3)] == [8, 8, 8]
    assert counted == [(None, None)]
    for until, left in ((TIMES[2], 6), (TIMES[1], 4)):
        assert page(sessions, replace(by_member, before=until), 1, 2, memory).count == left
    assert counted[1:] == [(TIMES[2], pages.LAST_TIME), (TIMES[1], TIMES[2])]


def test_the_next_page_goes_on_behind_the_last_one_unless_its_reader_took_long(sessions: Sessions) -> None:
    clock = ManualClock()
    memory = PageMemory(clock.monotonic)
    keep(sessions, *(a_bag(n) for n in range(1, 7)))
    page(sessions, Query(), 1, 2, memory)
    keep(sessions, a_bag(9, updated_at=TIMES[3]))
    behind = page(sessions, Query(), 2, 2, memory)
    assert [bag.uuid for bag in behind.records] == [uuid(4), uuid(3)]
    page(sessions, Query(), 1, 2, memory)
    keep(sessions, a_bag(10, updated_at=TIMES[3]))
    clock.advance(pages.WALK_SECONDS)
    assert page(sessions, Query(), 2, 2, memory) == page(sessions, Query(), 2, 2, None)


def test_a_reader_does_not_go_on_where_another_one_was(sessions: Sessions) -> None:
    memory = PageMemory(ManualClock().monotonic)
    keep(sessions, *(a_bag(n) for n in range(1, 7)))
    page(sessions, Query(), 1, 2, memory, "west")
    keep(sessions, a_bag(9, updated_at=TIMES[3]))
    assert page(sessions, Query(), 2, 2, memory, "south") == page(sessions, Query(), 2, 2, None)


def test_what_is_remembered_is_bounded(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_memory, "MAX_PAGES", 3)
    memory = PageMemory(ManualClock().monotonic)
    keep(sessions, *(a_bag(n) for n in range(1, 10)))
    for name in "abcde":
        for number in range(1, 5):
            page(sessions, Query(), number, 2, memory, name)
    assert len(memory._pages) == 3


def test_all_columns_come_back_as_they_were_written(sessions: Sessions) -> None:
    """Many rows at once travel as arrays: lists, nulls, quotes and braces must survive that."""
    odd = "{\"a\": 'b\\c'}, NULL ,{é}"
    bags = [
        a_bag(1, rights=(uuid(7), uuid(8)), local_id=odd, size=2**63 - 1, replicating_nodes=("north", "west")),
        a_bag(2, interpretive=(uuid(9),), replicating_nodes=()),
    ]
    transfers = [a_transfer(1, 1, link=odd, fixity_value=odd.lower()), a_transfer(2, 2, cancelled=True)]
    with sessions.begin() as session:
        save(session, BAGS, bags)
        save(session, TRANSFERS, transfers)
    with reading(sessions) as session:
        assert [find(session, BAGS, bag.uuid) for bag in bags] == bags
        assert [find(session, TRANSFERS, transfer.replication_id) for transfer in transfers] == transfers


def test_peers_are_synced_side_by_side_while_others_put_their_transfers(database_url: str, tmp_path: Path) -> None:
    """No deadlock, nothing lost: what one commits at its end never waits for what another does at its."""
    with running_registry("mid", database_url=database_url, folder=tmp_path, peers=("north", "west")) as mid:
        with mid.sessions.begin() as session:
            ensure_nodes(session, mid.settings.node, mid.settings.peers, now=LONG_AGO)
            save(session, BAGS, [a_bag(n, admin_node="mid", ingest_node="mid") for n in range(900, 930)])
            ours = [a_transfer(900 + n, 900 + n, from_node="mid", to_node="north") for n in range(30)]
            save(session, TRANSFERS, ours)
        failures: list[Exception] = []

        def sync(peer: str, first: int) -> None:
            for start in range(first, first + 200, 20):
                numbers = range(start, start + 20)
                bags = [a_bag(n, admin_node=peer, ingest_node=peer, replicating_nodes=(peer,)) for n in numbers]
                copies = [a_transfer(n, n, from_node=peer, to_node="mid") for n in numbers]
                with mid.sessions.begin() as session:
                    apply_from_peer(session, peer, [*bags, *copies, a_node(peer)])

        def put() -> None:
            for transfer in ours:
                with mid.sessions.begin() as session:
                    proposed = transfer.change(cancelled=True, cancel_reason="reject")
                    put_one(session, proposed)

        def put_one(session: Any, proposed: ReplicationRecord) -> None:
            caller = Caller("north", us="mid")
            decision = put_transfer(
                session, proposed.replication_id, proposed, caller=caller, now=LONG_AGO, copies=3
            )
            assert isinstance(decision, Accepted), decision

        def guarded(work: Any, *arguments: Any) -> None:
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001  (told by the test)
                failures.append(error)

        threads = [
            threading.Thread(target=guarded, args=arguments)
            for arguments in ((sync, "north", 1), (sync, "west", 300), (put,))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for path, count in (("/bag", 430), ("/replicate", 430), ("/replicate?cancelled=true", 30)):
            mark = "&" if "?" in path else "?"
            assert mid.ask("north", "GET", f"{path}{mark}page=1&page_size=1").json()["count"] == count
