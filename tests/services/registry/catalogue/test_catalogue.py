"""The catalogue on both databases: batches from peers, writers that meet, lists that cost what a page costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from dpn.clock import ManualClock
from dpn.database import Sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    DIGESTS,
    NODES,
    TRANSFERS,
    Applied,
    Query,
    add_bag,
    add_digest,
    add_transfer,
    batches,
    ensure_nodes,
    find,
    list_page,
    put_transfer,
)
from dpn.registry.records import Record, ReplicationRecord
from dpn.registry.rules import Accepted, Caller, Refused
from tests.fixtures.catalogue import NORTH, NOW, SOUTH, adopt
from tests.fixtures.records import DIGEST, OTHER_DIGEST, a_bag, a_digest, a_node, a_transfer, uuid
from tests.fixtures.registry import node_settings

TRANSFER = uuid(0x1001)


@pytest.fixture
def sessions(sessions: Sessions, tmp_path: Path) -> Sessions:
    """The registry of north, who knows south and west."""
    settings = node_settings("north", database_url="sqlite://", folder=tmp_path, peers=("south", "west"))
    with sessions.begin() as session:
        ensure_nodes(session, settings.node, settings.peers, now=NOW)
    return sessions


@pytest.fixture
def with_a_transfer(sessions: Sessions) -> Sessions:
    with sessions.begin() as session:
        add_bag(session, a_bag(), caller=NORTH, copies=3)
        add_digest(session, uuid(1), a_digest(), caller=NORTH, now=NOW)
        add_transfer(session, a_transfer(), caller=NORTH)
    return sessions


def everything(sessions: Sessions) -> dict[str, list[Record]]:
    with reading(sessions) as session:
        return {
            kind.name: [record for batch in batches(session, kind) for record in batch]
            for kind in (NODES, BAGS, DIGESTS, TRANSFERS)
        }


def to_wire(record: Record) -> dict[str, Any]:
    return record.to_wire()


def put(
    sessions: Sessions, changes: dict[str, Any], caller: Caller = SOUTH
) -> Accepted[ReplicationRecord] | Refused:
    with sessions.begin() as session:
        current = find(session, TRANSFERS, TRANSFER)
        assert current is not None
        return put_transfer(session, TRANSFER, current.change(**changes), caller=caller, now=NOW, copies=3)


@contextmanager
def counted_statements(engine: Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    yield statements
    event.remove(engine, "before_cursor_execute", count)


class TestWhatPeersTell:
    def test_a_batch_is_adopted_once_however_often_it_comes(self, sessions: Sessions) -> None:
        batch = [*(a_bag(n) for n in range(1, 51)), *(a_digest(n) for n in range(1, 51))]
        batch += [a_transfer(n, n) for n in range(1, 51)]
        assert adopt(sessions, "north", *batch) == Applied(added=150)
        first = everything(sessions)
        assert adopt(sessions, "north", *batch) == Applied(unchanged=150)
        assert everything(sessions) == first
        assert adopt(sessions, "north", a_bag(1, local_id="new"), a_transfer(1, cancelled=True)) == Applied(
            updated=2
        )

    def test_the_order_within_a_batch_does_not_matter(self, sessions: Sessions) -> None:
        records: list[Record] = [a_transfer(), a_digest(), a_bag()]
        for order in permutations(records):
            adopt(sessions, "north", *order)
        assert adopt(sessions, "north", *records) == Applied(unchanged=3)

    def test_what_cannot_be_adopted_is_set_aside_and_the_rest_is_adopted(self, sessions: Sessions) -> None:
        adopt(sessions, "south", a_bag(7, admin_node="south"))
        applied = adopt(
            sessions,
            "north",
            a_bag(1),
            a_bag(7),  # south's
            a_bag(8, first_version_uuid=uuid(1), version=1),  # version 1 of that family is bag 1
            a_bag(9),
            a_bag(10, first_version_uuid=uuid(1), version=2),
            a_bag(11, first_version_uuid=uuid(1), version=2),
            a_digest(9),
            a_digest(99),
            a_transfer(1, 9),
            a_transfer(2, 99),
            a_transfer(3, 9, from_node="west"),
        )
        assert (applied.added, applied.updated, applied.unchanged) == (5, 0, 0)
        assert {(refused.kind, refused.key[0], int(refused.status)) for refused in applied.refused} == {
            ("bag", uuid(7), 403),
            ("bag", uuid(8), 400),
            ("bag", uuid(11), 409),
            ("digest", uuid(99), 404),
            ("replicate", uuid(0x1002), 404),
            ("replicate", uuid(0x1003), 403),
        }
        assert all(refused.messages for refused in applied.refused)

    def test_one_bag_too_many_in_a_family_costs_the_others_nothing(self, sessions: Sessions) -> None:
        bags = [a_bag(n) for n in range(1, 200)] + [
            a_bag(number, first_version_uuid=uuid(100), version=2) for number in (499, 500)
        ]
        applied = adopt(sessions, "north", *bags)
        assert applied.added == 200
        assert [refused.key for refused in applied.refused] == [(uuid(500),)]

    def test_the_same_record_twice_in_a_batch_is_one(self, sessions: Sessions) -> None:
        applied = adopt(sessions, "north", a_bag(1), a_bag(1, local_id="new"), a_transfer(), a_transfer())
        assert applied == Applied(added=2, unchanged=1)
        assert everything(sessions)["bag"] == [a_bag(1, local_id="new")]

    def test_replicating_nodes_follow_the_admin_node(self, sessions: Sessions) -> None:
        for nodes in (("north",), ("north", "south", "west"), ("south",), ()):
            adopt(sessions, "north", a_bag(replicating_nodes=nodes))
            assert everything(sessions)["bag"] == [a_bag(replicating_nodes=nodes)]

    def test_a_peer_cannot_move_itself_or_others(self, sessions: Sessions) -> None:
        before = everything(sessions)["node"]
        applied = adopt(
            sessions,
            "south",
            a_node("south", name="South", api_root="https://evil.example.org", replicate_to=("west",)),
            a_node("west", api_root="https://evil.example.org"),
            a_node("mars"),
        )
        assert (applied.updated, len(applied.refused)) == (1, 2)
        after = everything(sessions)["node"]
        assert [wire["api_root"] for wire in map(to_wire, after)] == [
            wire["api_root"] for wire in map(to_wire, before)
        ]
        assert [to_wire(node)["name"] for node in after] == ["north", "South", "west"]

    def test_a_batch_costs_a_few_statements_not_one_a_record(self, sessions: Sessions, engine: Engine) -> None:
        bags = [a_bag(n, replicating_nodes=("north", "south")) for n in range(1, 101)]
        records: list[Record] = [
            *bags,
            *(a_digest(n) for n in range(1, 101)),
            *(a_transfer(n, n) for n in range(1, 101)),
        ]
        for _ in range(2):
            with counted_statements(engine) as statements:
                adopt(sessions, "north", *records)
            assert len(statements) < 40, statements


class TestLists:
    def test_a_page_costs_three_statements_whatever_it_holds(self, sessions: Sessions, engine: Engine) -> None:
        adopt(sessions, "north", *(a_bag(n, replicating_nodes=("north", "west")) for n in range(1, 151)))
        for size in (1, 100):
            with counted_statements(engine) as statements, reading(sessions) as session:
                page = list_page(session, BAGS, Query(order_by=("updated_at",)), number=1, size=size)
            assert len(page.records) == size
            assert len(statements) <= 4, statements

    def test_pages_in_one_order_cover_the_list_even_where_times_are_equal(self, sessions: Sessions) -> None:
        adopt(sessions, "north", *(a_bag(n * 37 % 101) for n in range(1, 101)))
        for order in ((), ("updated_at",), ("created_at", "updated_at")):
            with reading(sessions) as session:
                pages = [list_page(session, BAGS, Query(order_by=order), number=n, size=7) for n in range(1, 17)]
            keys = [record.key for page in pages for record in page.records]
            assert keys == sorted({(uuid(n),) for n in range(1, 101)}, reverse=True)
            assert {page.count for page in pages} == {100}

    def test_digests_of_one_time_are_paged_whole(self, sessions: Sessions) -> None:
        adopt(sessions, "north", *(a_bag(n) for n in range(1, 31)), *(a_digest(n) for n in range(1, 31)))
        with reading(sessions) as session:
            query = Query(order_by=("created_at",))
            pages = [list_page(session, DIGESTS, query, number=n, size=10).records for n in range(1, 5)]
        assert [len(page) for page in pages] == [10, 10, 10, 0]
        assert len({record.key for page in pages for record in page}) == 30

    def test_all_records_are_walked_in_batches(self, sessions: Sessions) -> None:
        records = [*(a_bag(n) for n in range(1, 26)), *(a_transfer(n, 1, stored=False) for n in range(1, 26))]
        adopt(sessions, "north", *records)
        with reading(sessions) as session:
            walked = list(batches(session, TRANSFERS, {"to_node": "south", "stored": False}, size=10))
            assert [len(batch) for batch in walked] == [10, 10, 5]
            assert sum(len(batch) for batch in batches(session, BAGS, size=25)) == 25

    def test_records_with_a_key_of_two_columns_are_walked_too(self, sessions: Sessions) -> None:
        adopt(sessions, "north", *(a_bag(n) for n in range(1, 8)), *(a_digest(n) for n in range(1, 8)))
        with reading(sessions) as session:
            walked = [digest.bag for batch in batches(session, DIGESTS, size=2) for digest in batch]
        assert walked == [uuid(n) for n in range(1, 8)]

    def test_a_filter_that_is_none_is_a_mistake_of_ours(self, sessions: Sessions) -> None:
        with reading(sessions) as session, pytest.raises(KeyError, match="no filter link"):
            list_page(session, TRANSFERS, Query({"link": "x"}), number=1, size=1)


def at_once(*steps: Callable[[], Any]) -> list[Any]:
    """Runs the steps in threads that start together."""
    start = threading.Barrier(len(steps))

    def run(step: Callable[[], Any]) -> Any:
        start.wait()
        return step()

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(run, steps))


class TestWritersThatMeet:
    def test_of_two_that_send_different_fixities_one_is_judged(self, with_a_transfer: Sessions) -> None:
        for _ in range(10):
            right, wrong = at_once(
                lambda: put(with_a_transfer, {"fixity_value": DIGEST}),
                lambda: put(with_a_transfer, {"fixity_value": OTHER_DIGEST}),
            )
            [final] = everything(with_a_transfer)["replicate"]
            assert isinstance(final, ReplicationRecord)
            assert final.store_requested != final.cancelled
            decisions = [
                decision for decision in (right, wrong) if isinstance(decision, Accepted) and decision.changed
            ]
            assert len(decisions) == 1, "both won"
            assert decisions[0].record == final
            with with_a_transfer.begin() as session:
                session.execute(TRANSFERS.table.delete())
                add_transfer(session, a_transfer(), caller=NORTH)

    def test_stored_and_cancelled_at_once_end_as_one_of_them(self, with_a_transfer: Sessions) -> None:
        put(with_a_transfer, {"fixity_value": DIGEST})
        view = everything(with_a_transfer)["replicate"][0]
        assert isinstance(view, ReplicationRecord)

        def send(caller: Caller, **changes: Any) -> Any:
            with with_a_transfer.begin() as session:
                return put_transfer(session, TRANSFER, view.change(**changes), caller=caller, now=NOW, copies=3)

        decisions = at_once(lambda: send(SOUTH, stored=True), lambda: send(NORTH, cancelled=True))
        [final] = everything(with_a_transfer)["replicate"]
        assert isinstance(final, ReplicationRecord)
        assert final.stored != final.cancelled
        assert [type(decision) for decision in decisions].count(Refused) == 1
        [bag] = everything(with_a_transfer)["bag"]
        assert ("south" in bag.replicating_nodes) == final.stored  # type: ignore[attr-defined]

    def test_many_that_send_the_same_make_one_change(self, with_a_transfer: Sessions) -> None:
        outcomes = at_once(*[lambda: put(with_a_transfer, {"fixity_value": DIGEST})] * 8)
        assert sum(outcome.changed for outcome in outcomes) == 1

    def test_one_of_two_new_records_with_one_key_is_there_already(self, sessions: Sessions) -> None:
        def add(local_id: str) -> Any:
            with sessions.begin() as session:
                return add_bag(session, a_bag(local_id=local_id), caller=NORTH, copies=3)

        outcomes = at_once(lambda: add("one"), lambda: add("two"))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Accepted", "Refused"]

    def test_a_fixity_and_the_digest_it_waits_for_never_miss_each_other(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            add_bag(session, a_bag(), caller=NORTH, copies=3)
            add_transfer(session, a_transfer(), caller=NORTH)

        def add_the_digest() -> Any:
            with sessions.begin() as session:
                return add_digest(session, uuid(1), a_digest(), caller=NORTH, now=NOW)

        for _ in range(10):
            at_once(lambda: put(sessions, {"fixity_value": DIGEST}), add_the_digest)
            [final] = everything(sessions)["replicate"]
            assert isinstance(final, ReplicationRecord)
            assert final.store_requested, "nobody gave the verdict"
            with sessions.begin() as session:
                session.execute(TRANSFERS.table.delete())
                session.execute(DIGESTS.table.delete())
                add_transfer(session, a_transfer(), caller=NORTH)

    def test_stored_copies_of_one_bag_all_join_it(self, sessions: Sessions) -> None:
        def store(transfer: ReplicationRecord) -> Any:
            caller = Caller(transfer.to_node, us="north")
            with sessions.begin() as session:
                return put_transfer(
                    session, transfer.key[0], transfer.change(stored=True), caller=caller, now=NOW, copies=3
                )

        for number in range(1, 21):
            transfers = [a_transfer(2 * number, number), a_transfer(2 * number + 1, number, to_node="west")]
            confirmed = [transfer.change(fixity_value=DIGEST, store_requested=True) for transfer in transfers]
            adopt(sessions, "north", a_bag(number), *confirmed)
            at_once(*[partial(store, transfer) for transfer in confirmed])
            with reading(sessions) as session:
                bag = find(session, BAGS, uuid(number))
            assert bag is not None
            assert bag.replicating_nodes == ("north", "south", "west")


class TestOurOwnEntries:
    def test_the_settings_say_where_nodes_are_and_the_registry_keeps_the_rest(
        self, sessions: Sessions, tmp_path: Path
    ) -> None:
        with sessions.begin() as session:
            us = find(session, NODES, "north")
        assert us is not None
        assert us.replicate_to == ("south", "west")
        clock = ManualClock(NOW + timedelta(days=1))
        moved = node_settings(
            "north",
            database_url="sqlite://",
            folder=tmp_path,
            peers=("south", "east"),
            api_root="https://north.example.org",
        )
        for _ in range(2):
            with sessions.begin() as session:
                ensure_nodes(session, moved.node, moved.peers, now=clock.now())
            clock.advance(60)
        with reading(sessions) as session:
            us, east = find(session, NODES, "north"), find(session, NODES, "east")
            assert find(session, NODES, "west") is not None
        assert us is not None
        assert east is not None
        assert us.api_root == "https://north.example.org"
        assert us.replicate_to == ("south", "west"), "agreements are not what the settings list"
        assert us.updated_at == east.created_at == NOW + timedelta(days=1), "a repetition changed something"

    def test_a_digest_that_comes_late_judges_who_waits(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            add_bag(session, a_bag(), caller=NORTH, copies=3)
            add_transfer(session, a_transfer(1), caller=NORTH)
            add_transfer(session, a_transfer(2, to_node="west"), caller=NORTH)
            for caller, key, value in (("south", 0x1001, DIGEST), ("west", 0x1002, OTHER_DIGEST)):
                current = find(session, TRANSFERS, uuid(key))
                assert current is not None
                put_transfer(
                    session,
                    uuid(key),
                    current.change(fixity_value=value),
                    caller=Caller(caller, "north"),
                    now=NOW,
                    copies=3,
                )
            add_digest(session, uuid(1), a_digest(), caller=NORTH, now=NOW)
        south, west = everything(sessions)["replicate"]
        assert isinstance(south, ReplicationRecord)
        assert isinstance(west, ReplicationRecord)
        assert (south.store_requested, south.updated_at) == (True, NOW)
        assert (west.cancelled, west.cancel_reason) == (True, "fixity_reject")
