"""No other node holds all slots of a worker, however long its transfers take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dpn.telemetry.metrics import WorkerMetrics
from dpn.work.outcomes import Done, Outcome
from dpn.work.schedule.presence import Presence
from dpn.work.settings import WorkSettings
from models.work import Status
from tests.fixtures.scripted.bench import LEASE_SECONDS, Bench
from workers.runner.lease_keeper import LeaseKeeper
from workers.runner.steps import Held, WorkerSteps
from workers.runner.worker import Worker

PRESENCE = Presence("host/test/1", "host", 1, ("copy",), ("a",))


def steps(bench: Bench, slots_per_node: int) -> WorkerSteps:
    runner = bench.runner("copy", lambda _: Done("done"))
    return WorkerSteps(
        presence=PRESENCE,
        runner=runner,
        leases=LeaseKeeper(bench.sessions, lease_seconds=LEASE_SECONDS, clock=bench.clock, log=runner.log),
        sessions=bench.sessions,
        lease_seconds=LEASE_SECONDS,
        clock=bench.clock,
        slots_per_node=slots_per_node,
    )


def take(steps: WorkerSteps, item: int) -> Held:
    held = steps.take(item)
    assert held is not None
    return held


def test_a_node_that_has_its_share_is_given_no_further_slot_until_one_of_its_items_ends(bench: Bench) -> None:
    worker = steps(bench, slots_per_node=2)
    items = [bench.make_item(number) for number in (1, 2, 3)]
    other = bench.make_item(4, remote_node="west")
    first, _second = take(worker, items[0]), take(worker, items[1])
    assert worker.due(10) == [other]
    assert worker.take(items[2]) is None
    assert bench.item(items[2]).status == Status.PENDING
    take(worker, other)
    worker.perform(first)
    take(worker, items[2])


def test_work_at_our_own_pace_is_not_counted(bench: Bench) -> None:
    worker = steps(bench, slots_per_node=1)
    for number in (1, 2):
        take(worker, bench.make_item(number, stage="validate"))
    copying = take(worker, bench.make_item(3))
    validated, of_nobody = bench.make_item(4, stage="validate"), bench.make_item(14, remote_node=None)
    assert sorted(worker.due(10)) == sorted([validated, of_nobody])
    assert copying.claim.remote_node == "north"


def test_items_that_name_no_node_share_what_one_may_have(bench: Bench) -> None:
    """A bag that is got back may come from any node, also each time from the same one."""
    worker = steps(bench, slots_per_node=1)
    first, second = (bench.make_item(number, remote_node=None) for number in (1, 2))
    held = take(worker, first)
    of_a_node = bench.make_item(3)
    assert worker.due(10) == [of_a_node]
    assert worker.take(second) is None
    worker.perform(held)
    take(worker, second)


def test_two_claims_at_the_same_moment_do_not_both_get_a_nodes_last_slot(bench: Bench) -> None:
    worker = steps(bench, slots_per_node=1)
    items = [bench.make_item(number) for number in range(1, 7)]
    start, taken = threading.Barrier(len(items)), []

    def claim(item: int) -> None:
        start.wait()
        taken.append(worker.take(item))

    threads = [threading.Thread(target=claim, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([held for held in taken if held is not None]) == 1


def test_a_node_whose_transfers_do_not_end_leaves_slots_to_the_others(bench: Bench) -> None:
    """With the default share, of a worker of two."""
    slow = [bench.make_item(number) for number in (1, 2)]
    quick = bench.make_item(3, remote_node="west")

    async def story(worker: Worker, trickle: threading.Event) -> None:
        for item in (*slow, quick):
            assert await worker.offer("a queue", str(item).encode())
        await _until(lambda: bench.item(quick).stage == "validate")
        assert [bench.item(item).status for item in slow] == [Status.RUNNING, Status.PENDING]
        trickle.set()
        await _until(lambda: bench.item(slow[0]).stage == "validate")

    with a_worker(bench) as (worker, trickle):
        asyncio.run(story(worker, trickle))


@contextmanager
def a_worker(bench: Bench) -> Iterator[tuple[Worker, threading.Event]]:
    trickle = threading.Event()

    def copy(job: Any) -> Outcome:
        if job.claim.remote_node == "north":
            trickle.wait()
        return Done("copied")

    runner = bench.runner("copy", copy)
    worker = Worker(
        runner=runner,
        presence=PRESENCE,
        sessions=bench.sessions,
        broker=bench.broker,
        settings=WorkSettings(),
        concurrency=2,
        chores=[],
        clock=bench.clock,
        log=runner.log,
        metrics=WorkerMetrics(),
    )
    try:
        yield worker, trickle
    finally:
        trickle.set()
        for _ in range(2):  # what a failed test left under way must not wait for a database that is gone
            worker.halt()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
