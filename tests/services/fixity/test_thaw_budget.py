"""No more is asked out of cold storage in a month than the operator allows, whatever asks for it, and dies."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dpn.clock import ManualClock
from dpn.database import open_engine, open_sessions, reading
from dpn.fixity.thaw_budget import ColdBudget, NoBudget, free_again
from models.base import Base
from models.preservation import ColdRequest
from tests.fixtures.records import uuid
from tests.services.workers.fixity.checking import Checker, make_checker
from tests.services.workers.fixity.cold_stores import ColdFolder
from tests.services.workers.fixity.test_thaw import answer, says, waits

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def budget(database_url: str, clock: ManualClock) -> Any:
    engine = open_engine(database_url)
    Base.metadata.create_all(engine)
    yield ColdBudget(open_sessions(engine), 1000, clock)
    engine.dispose()


def take(budget: ColdBudget, item_id: int, size: int, *, again: bool = False) -> NoBudget | None:
    return budget.take(item_id, bag=uuid(item_id), size=size, tier="Bulk", again=again)


def noted(budget: ColdBudget) -> list[int]:
    with reading(budget.sessions) as session:
        return list(session.scalars(select(ColdRequest.bytes).order_by(ColdRequest.id)))


@pytest.mark.parametrize(
    ("asked", "size", "until"),
    [
        ([], 1000, None),
        ([(0, 600)], 400, None),
        ([(0, 600)], 401, 30),
        ([(0, 600), (5, 300)], 500, 30),
        ([(5, 300), (0, 600)], 800, 35),
        ([(0, 100), (1, 100), (2, 800)], 200, 31),
    ],
)
def test_the_oldest_requests_make_room_first(asked: list[tuple[int, int]], size: int, until: int | None) -> None:
    requests = [(START + day * DAY, amount) for day, amount in asked]
    assert free_again(requests, size, 1000) == (None if until is None else START + until * DAY)


def test_what_is_beyond_the_budget_waits_until_a_month_has_passed(budget: ColdBudget, clock: ManualClock) -> None:
    assert take(budget, 1, 700) is None
    refusal = take(budget, 2, 400)
    assert refusal is not None
    assert refusal.until == clock.now() + 30 * DAY
    assert "700 of 1000 bytes" in refusal.why
    clock.advance(30 * DAY.total_seconds() + 1)
    assert take(budget, 2, 400) is None
    assert noted(budget) == [700, 400]


def test_a_copy_beyond_the_whole_budget_never_fits(budget: ColdBudget) -> None:
    refusal = take(budget, 1, 1001)
    assert refusal is not None
    assert refusal.until is None


def test_a_request_that_was_not_answered_counts_once_and_another_one_again(budget: ColdBudget) -> None:
    assert take(budget, 1, 400) is None
    assert take(budget, 1, 400) is None  # its worker died before it could ask
    assert noted(budget) == [400]
    assert take(budget, 1, 400, again=True) is None  # it was restored, and has expired
    assert noted(budget) == [400, 400]
    assert take(budget, 1, 400, again=True) is not None


def test_what_the_store_did_not_take_is_not_counted(budget: ColdBudget) -> None:
    take(budget, 1, 400)
    take(budget, 1, 500, again=True)
    budget.give_back(1)
    assert noted(budget) == [400]


def test_what_an_operator_has_asked_for_counts_and_is_no_items(budget: ColdBudget) -> None:
    budget.note(bag=uuid(9), size=400, tier="Bulk")
    assert take(budget, 1, 601) is not None
    assert take(budget, 1, 600) is None
    budget.give_back(1)
    assert noted(budget) == [400]


def test_two_at_once_do_not_both_take_what_is_left(budget: ColdBudget) -> None:
    answers: list[NoBudget | None] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(take(budget, n, 600))) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(None) == 1


class TestItems:
    @pytest.fixture
    def north(self, tmp_path: Path, sqlite_url: str) -> Checker:
        north = make_checker(tmp_path, database_url=sqlite_url)
        north.store = ColdFolder(north.store, says("cold"))  # type: ignore[assignment]
        return north

    def test_an_item_beyond_the_budget_waits_and_says_until_when(self, north: Checker) -> None:
        north.store.answers = [answer("accepted"), answer("accepted")]  # type: ignore[attr-defined]
        size = self._size(north)
        north.change_settings(max_cold_bytes_per_month=size + 1)
        first = north.check()
        assert waits(first)
        second = north.later(first.id)  # expired: it would have to be asked for again
        assert waits(second)
        assert f"{size} of {size + 1} bytes were asked for in the last 30 days" in second.note
        assert "raise fixity.max_cold_bytes_per_month" in second.note
        assert len(north.store.requests) == 1  # type: ignore[attr-defined]
        north.clock.advance(30 * DAY.total_seconds())
        north.later(first.id)
        assert len(north.store.requests) == 2  # type: ignore[attr-defined]

    def test_an_item_larger_than_the_budget_calls_for_an_operator(self, north: Checker) -> None:
        north.change_settings(max_cold_bytes_per_month=1)
        item = north.check()
        assert waits(item)
        assert item.needs_attention
        assert "more than the budget of a month, 1 bytes" in item.note

    def test_a_request_that_is_refused_takes_nothing_of_the_budget(self, north: Checker) -> None:
        north.store.answers = [answer("no-capacity"), answer("refused"), answer("accepted")]  # type: ignore[attr-defined]
        north.change_settings(max_cold_bytes_per_month=self._size(north))
        item = north.check()
        north.later(item.id)
        north.later(item.id)
        assert len(north.store.requests) == 3  # type: ignore[attr-defined]

    @pytest.mark.parametrize("outcome", ["no-capacity", "refused"])
    def test_what_the_store_does_not_lengthen_still_counts_as_it_was_asked_for(
        self, north: Checker, outcome: str
    ) -> None:
        north.store.answers = [answer("accepted"), answer(outcome)]  # type: ignore[attr-defined]
        item = north.check()
        north.store.says = says("available", north.clock.now() + timedelta(hours=1))  # type: ignore[attr-defined]
        north.later(item.id)
        assert len(north.store.requests) == 2  # type: ignore[attr-defined]
        with reading(north.sessions) as session:
            assert list(session.scalars(select(ColdRequest.bytes))) == [self._size(north)]

    @staticmethod
    def _size(north: Checker) -> int:
        with reading(north.sessions) as session:
            from models.preservation import StoredCopy

            return session.scalars(select(StoredCopy.size)).one()
