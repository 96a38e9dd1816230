"""What lists say that they hold is what counting would say, whatever is written, undone, or written at once."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from dpn.cli.processes.cron import _recount
from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    TRANSFERS,
    Kind,
    PageMemory,
    Query,
    Reader,
    apply_from_peer,
    list_page,
    totals,
)
from dpn.registry.catalogue.rows import save, save_new
from dpn.registry.records import BagRecord, ReplicationRecord
from models.registry import ListTotal
from tests.fixtures.records import LONG_AGO, a_bag, a_node, a_transfer
from tests.fixtures.registry import running_registry
from tests.services.models.test_migrations import upgrade_to


@pytest.fixture(autouse=True)
def often_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "ADDED_UP_EVERY", 7)


def wrong(sessions: Sessions) -> dict[str, int]:
    """How many totals of each kind were not what counting says; they are put right."""
    with sessions.begin() as session:
        return {kind: number for kind, number in totals.recount(session).items() if number}


def held(sessions: Sessions, kind: Kind[Any], **where: Any) -> tuple[int, int] | None:
    with reading(sessions) as session:
        return totals.total(session, kind, where)


BAG = st.builds(
    a_bag,
    st.integers(1, 8),
    admin_node=st.sampled_from(["north", "west"]),
    bag_type=st.sampled_from("DIR"),
    size=st.integers(1, 2**63 - 1),
)
TRANSFER = st.builds(a_transfer, st.integers(1, 8), st.just(1), stored=st.booleans(), cancelled=st.booleans())
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["saved", "rolled back", "undone in part"]),
        st.lists(BAG, max_size=4, unique_by=lambda bag: bag.uuid),
        st.lists(TRANSFER, max_size=4, unique_by=lambda transfer: transfer.replication_id),
    ),
    max_size=12,
)


class Undone(Exception):
    """What ends a transaction that is not to count."""


def write(sessions: Sessions, how: str, bags: list[BagRecord], transfers: list[ReplicationRecord]) -> None:
    with sessions.begin() as session:
        save_new(session, BAGS, bags[:1])
        save(session, BAGS, bags)
        if how == "undone in part":
            part = session.begin_nested()
            save(session, TRANSFERS, transfers)
            part.rollback()
        else:
            save(session, TRANSFERS, transfers)
        if how == "rolled back":
            raise Undone


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_totals_are_what_counting_says_whatever_was_written_and_undone(sessions: Sessions, steps: Any) -> None:
    with sessions.begin() as session:
        session.execute(delete(TRANSFERS.table))
        session.execute(delete(BAGS.table))
        totals.recount(session)
        save(session, BAGS, [a_bag(1)])
    for how, bags, transfers in steps:
        try:
            write(sessions, how, bags, transfers)
        except Undone:
            assert how == "rolled back"
    assert wrong(sessions) == {}


def test_lists_say_what_they_hold_by_their_filters_and_times(sessions: Sessions) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n, admin_node="north" if n % 3 else "west", size=n) for n in range(1, 13)])
    assert held(sessions, BAGS, admin_node="west") == (4, 3 + 6 + 9 + 12)
    assert held(sessions, BAGS, admin_node="nobody") == (0, 0)
    assert held(sessions, BAGS, member="x") is None, "not a facet: to be counted"
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(3, admin_node="north", size=5)])
    assert held(sessions, BAGS, admin_node="west") == (3, 27)
    with reading(sessions) as session:
        page = list_page(session, BAGS, Query({"admin_node": "north"}, LONG_AGO), number=1, size=5)
    assert (page.count, page.total_size, len(page.records)) == (9, 53, 5)


def test_a_page_costs_no_count_of_its_list(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n) for n in range(1, 6)])

    def counted(*_: Any, **__: Any) -> None:
        raise AssertionError("the list was counted")

    monkeypatch.setattr("dpn.registry.catalogue.pages._Page.count_between", counted)
    with reading(sessions) as session:
        page = list_page(session, BAGS, Query({"bag_type": "D"}, before=LONG_AGO), number=1, size=2)
    assert page.count == 5


def test_sizes_beyond_any_integer_column_are_added_up(sessions: Sessions) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n, size=2**63 - 1) for n in range(1, 9)])
    assert held(sessions, BAGS) == (8, 8 * (2**63 - 1))
    with reading(sessions) as session:
        listed = list_page(session, BAGS, Query({"member": a_bag(1).member}), number=1, size=1)
    assert listed.total_size == 8 * (2**63 - 1)
    assert wrong(sessions) == {}


def test_rows_are_added_up_now_and_then(sessions: Sessions) -> None:
    for n in range(1, 60):
        with sessions.begin() as session:
            save(session, TRANSFERS, [])
            save(session, BAGS, [a_bag(1, size=n)])
    with reading(sessions) as session:
        assert session.scalar(select(func.count()).select_from(ListTotal)) < 10
    assert held(sessions, BAGS) == (1, 59)


def test_a_peer_with_too_many_values_only_has_its_lists_counted(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "MAX_ROWS", 20)
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n, ingest_node=f"node{n}") for n in range(1, 40)])
    assert held(sessions, BAGS) is None
    with reading(sessions) as session:
        assert list_page(session, BAGS, Query(), number=1, size=5).count == 39
    assert wrong(sessions) == {}


def test_those_who_write_at_once_lose_no_count(sessions: Sessions) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n) for n in range(1, 6)])
    failures: list[BaseException] = []

    def many(first: int) -> None:
        try:
            for n in range(12):
                with sessions.begin() as session:
                    apply_from_peer(session, "north", [a_node("north"), *(a_bag(first + n + m) for m in range(3))])
                with sessions.begin() as session:
                    save(session, TRANSFERS, [a_transfer(1 + n % 4, 1 + n % 4, stored=bool((n + first) % 2))])
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=many, args=(10 + 5 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert wrong(sessions) == {}


def test_what_was_changed_by_hand_is_put_right_by_a_recount(sessions: Sessions) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n) for n in range(1, 6)])
        session.execute(delete(BAGS.table).where(BAGS.table.c.uuid == a_bag(2).uuid))
    assert held(sessions, BAGS) is not None
    assert wrong(sessions) == {"bag": 1}
    assert held(sessions, BAGS, admin_node="north") == (4, sum(a_bag(n).size for n in (1, 3, 4, 5)))


def test_an_older_registry_is_counted_when_it_is_upgraded(database_url: str) -> None:
    engine = open_engine(database_url)
    upgrade_to(engine, "0002")
    with engine.begin() as connection:
        bags = [a_bag(n, size=2**62, admin_node="north" if n % 2 else "west") for n in range(1, 8)]
        connection.execute(BAGS.table.insert(), [BAGS.columns(bag) for bag in bags])
        transfers = [a_transfer(n, n, stored=n > 4) for n in range(1, 8)]
        connection.execute(TRANSFERS.table.insert(), [TRANSFERS.columns(transfer) for transfer in transfers])
    upgrade_to(engine, "0003")
    sessions = open_sessions(engine)
    assert held(sessions, BAGS, admin_node="north") == (4, 4 * 2**62)
    assert held(sessions, TRANSFERS, stored=True) == (3, 0)
    assert wrong(sessions) == {}
    engine.dispose()


def test_a_list_that_was_changed_by_hand_is_counted_where_its_page_shows_it(sessions: Sessions) -> None:
    with sessions.begin() as session:
        save(session, BAGS, [a_bag(n, size=1) for n in range(1, 6)])
        session.execute(delete(BAGS.table).where(BAGS.table.c.uuid == a_bag(2).uuid))
    memory = PageMemory(ManualClock().monotonic)
    with reading(sessions) as session:
        for reader in (None, Reader("south", "a state", memory)):
            page = list_page(session, BAGS, Query(), number=1, size=5, reader=reader)
            assert (page.count, page.total_size, len(page.records)) == (4, 4, 4)
            page = list_page(session, BAGS, Query({"admin_node": "north"}), number=2, size=3, reader=reader)
            assert (page.count, len(page.records)) == (4, 1)
    with sessions.begin() as session:
        session.execute(delete(ListTotal))
    with reading(sessions) as session:
        page = list_page(session, BAGS, Query(), number=1, size=2)
        assert (page.count, len(page.records), page.has_next) == (4, 2, True)


def test_dpn_cleanup_puts_right_what_was_changed_by_hand(tmp_path: Path, database_url: str) -> None:
    with running_registry("mid", database_url=database_url, folder=tmp_path) as mid:
        with mid.sessions.begin() as session:
            save(session, BAGS, [a_bag(n) for n in range(1, 4)])
            session.execute(delete(BAGS.table).where(BAGS.table.c.uuid == a_bag(2).uuid))
        _recount(SimpleNamespace(sessions=mid.sessions, log=structlog.get_logger()))  # type: ignore[arg-type]
        assert held(mid.sessions, BAGS) == (2, a_bag(1).size + a_bag(3).size)
