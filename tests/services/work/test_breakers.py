"""A breaker for each outside service, shared by all processes: nobody hammers what is down.

docs/architecture.md, promise 7.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import ColumnElement

from dpn.clock import ManualClock
from dpn.database import Sessions
from dpn.errors import Interrupted, NoSpace, PeerRefused, PeerUnavailable, ServiceUnavailable
from dpn.work.breakers import BreakerPolicy, Breakers
from models.work import ServiceHealth

NORTH = "peer:north"
POLICY = BreakerPolicy(failures=3, first_seconds=30, max_seconds=600)


def open_breakers(sessions: Sessions, clock: ManualClock) -> Breakers:
    """As one process has them."""
    return Breakers(sessions, POLICY, clock=clock, jitter=lambda: 1.0)


@pytest.fixture
def breakers(sessions: Sessions, clock: ManualClock) -> Breakers:
    return open_breakers(sessions, clock)


def fail(breakers: Breakers, error: Exception | None = None, service: str = NORTH) -> ServiceUnavailable:
    """A call that fails; returns what left the breaker."""
    with pytest.raises(ServiceUnavailable) as raised, breakers.guard(service):
        raise error or PeerUnavailable(NORTH, "connection refused")
    return raised.value


def is_open(breakers: Breakers, service: str = NORTH) -> bool:
    """Whether a call would not even be tried."""
    called = False
    try:
        with breakers.guard(service):
            called = True
            raise Interrupted("only a question")
    except (Interrupted, ServiceUnavailable):
        return not called


def test_a_breaker_opens_after_some_failures_in_a_row_and_spares_the_service(
    breakers: Breakers, clock: ManualClock
) -> None:
    for _ in range(POLICY.failures - 1):
        fail(breakers)
        assert not is_open(breakers)
    fail(breakers)
    assert is_open(breakers)
    told = fail(breakers, AssertionError("the service must not be asked"))
    assert re.search(r"left alone after 3 failures.*connection refused", str(told))
    assert told.retry_after_seconds == pytest.approx(30)


def test_after_its_time_one_more_failure_opens_it_for_longer_up_to_a_bound(
    breakers: Breakers, clock: ManualClock
) -> None:
    waits = []
    for _ in range(POLICY.failures - 1):
        fail(breakers)
    for _ in range(8):
        waits.append(fail(breakers).retry_after_seconds)
        assert is_open(breakers)
        clock.advance(waits[-1] or 0)
        assert not is_open(breakers), "half open: whoever comes may try"
    assert waits == [30, 60, 120, 240, 480, 600, 600, 600]


def test_a_success_closes_it_and_all_is_forgotten(breakers: Breakers, clock: ManualClock) -> None:
    for _ in range(POLICY.failures):
        fail(breakers)
    clock.advance(31)
    with breakers.guard(NORTH):
        pass
    for _ in range(POLICY.failures - 1):
        fail(breakers)
    assert not is_open(breakers)


def test_what_one_process_finds_out_spares_all_others(
    sessions: Sessions, breakers: Breakers, clock: ManualClock
) -> None:
    other = open_breakers(sessions, clock)
    for _ in range(POLICY.failures):
        fail(breakers)
    assert is_open(other)
    clock.advance(31)
    with other.guard(NORTH):
        pass
    assert not is_open(breakers)


def test_each_service_has_its_own(breakers: Breakers) -> None:
    for _ in range(POLICY.failures):
        fail(breakers)
    assert not is_open(breakers, "peer:south")


def test_many_who_meet_the_same_outage_at_once_count_as_one(
    sessions: Sessions, breakers: Breakers, clock: ManualClock
) -> None:
    """Eight slots that wait for the same time-out must not leave the peer alone for hours."""
    waiting = threading.Barrier(8)

    def meet(_: int) -> ServiceUnavailable:
        try:
            with breakers.guard(NORTH):
                waiting.wait()
                raise PeerUnavailable(NORTH, "timed out")
        except ServiceUnavailable as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        waits = [error.retry_after_seconds for error in pool.map(meet, range(8))]
    assert max(wait or 0 for wait in waits) == pytest.approx(30)
    with sessions() as session:
        assert session.get_one(ServiceHealth, NORTH).failures == POLICY.failures


@pytest.mark.parametrize(
    ("asked", "granted"), [(120.0, 120), (1e15, 600), (float("inf"), 600), (0.0, 30), (-5.0, 30)]
)
def test_what_the_service_asks_for_is_granted_within_bounds(
    breakers: Breakers, clock: ManualClock, asked: float, granted: float
) -> None:
    wait = fail(breakers, PeerUnavailable(NORTH, "HTTP 429", asked)).retry_after_seconds
    assert wait == pytest.approx(granted)
    if asked > 0:
        assert is_open(breakers), "at its first word"
        clock.advance(granted + 1)
    assert not is_open(breakers)


def test_a_refusal_shows_that_the_service_answers(breakers: Breakers) -> None:
    for _ in range(POLICY.failures - 1):
        fail(breakers)
    with pytest.raises(PeerRefused), breakers.guard(NORTH):
        raise PeerRefused("north", 404, "not found")
    fail(breakers)
    assert not is_open(breakers)


@pytest.mark.parametrize("error", [Interrupted("the worker stops"), NoSpace("no room")])
def test_being_stopped_says_nothing_of_the_service(
    breakers: Breakers, clock: ManualClock, error: Exception
) -> None:
    for _ in range(POLICY.failures):
        fail(breakers)
    clock.advance(31)
    with pytest.raises(type(error)), breakers.guard(NORTH):
        raise error
    assert fail(breakers).retry_after_seconds == 60, "it was still half open"


def test_the_outage_of_another_service_met_on_the_way_is_not_this_one_s(breakers: Breakers) -> None:
    for _ in range(POLICY.failures + 1):
        fail(breakers, ServiceUnavailable("rsync:north", "refused"))
    assert not is_open(breakers)


def test_hostile_words_of_a_peer_can_be_kept(sessions: Sessions, breakers: Breakers) -> None:
    fail(breakers, PeerUnavailable(NORTH, "a\0b\x1b[2J\ud800" + "x" * 5000))
    with sessions() as session:
        kept = session.get_one(ServiceHealth, NORTH).last_error
    assert kept.isprintable()
    assert len(kept) == 1000


def test_a_breaker_that_a_host_with_a_fast_clock_opened_is_open_no_longer_than_the_longest(
    sessions: Sessions, clock: ManualClock, breakers: Breakers
) -> None:
    """The database's own clock may have been ahead for a moment: what it left is not believed."""
    ahead = ManualClock(clock.now() + timedelta(days=1))
    for _ in range(POLICY.failures):
        fail(open_breakers(sessions, ahead))
    assert is_open(open_breakers(sessions, ahead))
    assert not is_open(breakers)
    with breakers.guard(NORTH):
        pass
    with sessions() as session:
        assert session.get_one(ServiceHealth, NORTH).open_until is None


def test_breakers_go_by_the_clock_of_the_database(
    sessions: Sessions, clock: ManualClock, breakers: Breakers
) -> None:
    class Wrong(ManualClock):
        def in_database(self, after_seconds: float = 0.0) -> ColumnElement[datetime]:
            return clock.in_database(after_seconds)

    for wrong in (Wrong(clock.now() + timedelta(seconds=300)), Wrong(clock.now() - timedelta(days=1))):
        for _ in range(POLICY.failures):
            fail(open_breakers(sessions, wrong))
        assert is_open(breakers)
        clock.advance(31)
        assert not is_open(breakers)
        with breakers.guard(NORTH):
            pass
