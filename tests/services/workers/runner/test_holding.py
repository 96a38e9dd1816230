"""What a worker holds is its own until it is lost, and what it cannot take goes to another worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, LeaseLost
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work.outcomes import Done
from dpn.work.progress import StageProgress
from dpn.work.schedule.presence import Presence
from dpn.work.settings import WorkSettings
from models.work import Status, WorkItem
from tests.fixtures.scripted.bench import LEASE_SECONDS, Bench
from workers.runner import worker as worker_module
from workers.runner.lease_keeper import LeaseKeeper
from workers.runner.worker import Worker


@pytest.fixture
def keeper(bench: Bench) -> LeaseKeeper:
    log = bench.runner("copy", lambda _: Done("done")).log
    return LeaseKeeper(bench.sessions, lease_seconds=LEASE_SECONDS, clock=bench.clock, log=log)


def hold(bench: Bench, keeper: LeaseKeeper, item: int) -> Cancellation:
    cancellation = Cancellation()
    keeper.hold(bench.claim(item), cancellation, StageProgress(bench.clock), claimed_at=bench.clock.monotonic())
    return cancellation


@pytest.mark.parametrize("lost", [{"lease_token": 7}, {"status": Status.CANCELLED}])
def test_the_work_on_an_item_that_was_lost_is_stopped_and_no_other(
    bench: Bench, keeper: LeaseKeeper, lost: dict[str, Any]
) -> None:
    first, second = (bench.make_item(number) for number in (1, 2))
    gone, kept = hold(bench, keeper, first), hold(bench, keeper, second)
    with bench.sessions.begin() as session:
        session.execute(update(WorkItem).where(WorkItem.id == first).values(**lost))
    keeper.extend_all()
    with pytest.raises(LeaseLost, match=f"item {first}"):
        gone.check()
    kept.check()


def test_work_that_the_database_has_left_for_a_lease_is_put_back_untried(
    bench: Bench, keeper: LeaseKeeper
) -> None:
    """Nobody has taken it since: the item did nothing wrong, and nothing of it is lost."""
    item = bench.make_item()
    cancellation = hold(bench, keeper, item)
    bench.clock.advance(LEASE_SECONDS - 1)
    keeper.give_up_expired()
    cancellation.check()
    bench.clock.advance(1)
    keeper.give_up_expired()
    with pytest.raises(Interrupted, match="away for a whole lease") as raised:
        cancellation.check()
    assert not isinstance(raised.value, LeaseLost)


def test_what_follows_an_items_end_comes_after_its_commit_and_not_without_it(bench: Bench) -> None:
    for is_lost in (False, True):
        item = bench.make_item(1 + is_lost)
        claim = bench.claim(item)
        statuses: list[str] = []

        def follow(
            _claim: Any, _manifest: Any, _change: Any, item: int = item, seen: list[str] = statuses
        ) -> None:
            seen.append(bench.item(item).status)

        def end(_: Any, item: int = item, is_lost: bool = is_lost) -> Done:
            if is_lost:
                with bench.sessions.begin() as session:
                    session.execute(update(WorkItem).where(WorkItem.id == item).values(lease_token=7))
            return Done("done", ends_item=True)

        replace(bench.runner(claim.stage, end), ended=follow).run(claim, Cancellation())
        assert statuses == ([] if is_lost else [Status.SUCCESS])


@pytest.fixture
def worker(bench: Bench) -> Worker:
    runner = bench.runner("copy", lambda _: Done("done"))
    return Worker(
        runner=runner,
        presence=Presence("host/test/1", "host", 1, ("copy",), ()),
        sessions=bench.sessions,
        broker=bench.broker,
        settings=WorkSettings(),
        concurrency=1,
        chores=[],
        clock=bench.clock,
        log=runner.log,
        metrics=WorkerMetrics(),
    )


def offer(worker: Worker, item: int) -> bool:
    return asyncio.run(worker.offer("a queue", str(item).encode()))


def test_a_message_that_finds_no_free_slot_goes_to_another_worker(bench: Bench, worker: Worker) -> None:
    item = bench.make_item()
    worker.halt()
    assert offer(worker, item) is False
    assert bench.item(item).lease_token == 0


def test_a_message_whose_claim_failed_is_judged_again(
    bench: Bench, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("the server closed the connection"))

    monkeypatch.setattr(worker_module, "PAUSE_AFTER_FAILURE_SECONDS", 0.0)
    monkeypatch.setattr("workers.runner.steps.claim", fail)
    assert offer(worker, bench.make_item()) is False
