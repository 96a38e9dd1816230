"""A clock that was wrong for a moment leaves no time that is believed for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dpn.clock import ManualClock
from dpn.work import leases
from dpn.work.schedule.presence import Presence, live_workers, register
from dpn.work.schedule.times_ahead import take_back
from models.work import Status
from tests.fixtures.scripted.bench import LEASE_SECONDS, Bench
from workers.pipelines import PIPELINES

FIVE_MINUTES = 300


def due(bench: Bench) -> list[int]:
    with bench.sessions() as session:
        return sorted(
            leases.due_items(session, stages=PIPELINES.all_specs(), volumes=("a",), limit=10, clock=bench.clock)
        )


def mended(bench: Bench) -> list[int]:
    with bench.sessions.begin() as session:
        return take_back(session, lease_seconds=LEASE_SECONDS, clock=bench.clock)


@pytest.mark.parametrize("hours", [1, 24 * 365])
def test_what_was_due_or_held_when_the_clock_was_put_back_moves_within_a_lease(bench: Bench, hours: int) -> None:
    right = bench.clock.now()
    bench.clock.advance(hours * 3600)
    waits, held = bench.make_item(1), bench.make_item(2)
    bench.claim(held, "a worker that is killed")
    bench.clock = ManualClock(right)
    assert due(bench) == []
    assert mended(bench) == [waits, held]
    assert due(bench) == [waits]
    bench.clock.advance(LEASE_SECONDS + 1)
    assert due(bench) == [waits, held]
    assert mended(bench) == []


def test_what_waits_or_is_held_by_right_clocks_is_left_alone(bench: Bench) -> None:
    tomorrow = bench.clock.now() + timedelta(days=1)
    bench.make_item(1, run_after=tomorrow)
    bench.claim(bench.make_item(2))
    bench.make_item(3, status=Status.SUCCESS, updated_at=tomorrow)
    assert mended(bench) == []
    longer, item = 5 * LEASE_SECONDS, bench.make_item(4)  # a worker that still has the settings of before
    with bench.sessions.begin() as session:
        leases.claim(
            session,
            item,
            worker="b",
            stages=PIPELINES.all_specs(),
            volumes=(),
            lease_seconds=longer,
            clock=bench.clock,
        )
    assert mended(bench) == []


def test_a_holder_that_is_alive_keeps_its_item_when_the_clock_was_put_back(bench: Bench) -> None:
    right = bench.clock.now()
    bench.clock.advance(3600)
    item = bench.make_item(1)
    held = bench.claim(item)
    bench.clock = ManualClock(right)
    assert mended(bench) == [item]
    assert due(bench) == []
    with bench.sessions.begin() as session:
        holds = [(item, held.token)]
        assert leases.extend(session, holds, lease_seconds=LEASE_SECONDS, clock=bench.clock) == {item}
    assert due(bench) == []


def test_a_worker_that_was_seen_in_the_future_is_not_taken_for_alive_until_then(bench: Bench) -> None:
    right = bench.clock.now()
    bench.clock.advance(86_400)
    with bench.sessions.begin() as session:
        register(session, Presence("w", "host", 1, ("copy",), ("a",)), clock=bench.clock)
    bench.clock = ManualClock(right)
    assert mended(bench) == []
    bench.clock.advance(FIVE_MINUTES)
    with bench.sessions() as session:
        assert live_workers(session, within_seconds=60, clock=bench.clock) == []
