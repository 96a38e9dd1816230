"""Requesters that share a stage have their turns in the database, too, and a backlog costs the others nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text

from dpn.clock import SystemClock
from dpn.database import insert_missing, reading
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work.items import new_item
from dpn.work.outcomes import Done, Wait
from dpn.work.pipeline import Pipeline, Pipelines
from dpn.work.schedule.presence import Presence
from dpn.work.schedule.turns import next_in_turn
from dpn.work.settings import WorkSettings
from models.work import Status, WorkItem
from tests.fixtures.scripted.bench import POLICY, Behaviour, Bench
from tests.fixtures.toy import SEND, TOY, ToyManifest
from tests.services.work.test_plans import plans_of
from workers.runner.worker import Worker
from workers.stage import Job

SHARED = replace(SEND, shared=True)
PIPELINES = Pipelines([Pipeline("toy", (SHARED,), ToyManifest, TOY.endings)])
_numbers: Iterator[int] = count()


def ask(bench: Bench, requester: str, many: int = 1, **values: Any) -> list[str]:
    """Has the requester ask for so many items; returns their identifiers."""
    made = [f"{requester} {next(_numbers)}" for _ in range(many)]
    rows = [
        new_item(
            task="toy",
            identifier=identifier,
            remote_node=None,
            note="asked for",
            manifest={},
            pipelines=PIPELINES,
            clock=bench.clock,
            now=bench.clock.now(),
            requester=requester,
            priority=values.pop("priority", 3) if not number else 3,
        )
        | values
        for number, identifier in enumerate(made)
    ]
    with bench.sessions.begin() as session:
        insert_missing(session, WorkItem, rows)
    return made


def in_turn(bench: Bench, limit: int) -> list[str]:
    with reading(bench.sessions) as session:
        ids = next_in_turn(session, SHARED, limit=limit, clock=bench.clock, chance=lambda: 0.5)
        return [session.get_one(WorkItem, item_id).identifier for item_id in ids]


def test_a_single_item_comes_before_the_backlog_of_another(bench: Bench) -> None:
    many = ask(bench, "alice", 20)
    bench.clock.advance(60)
    (one,) = ask(bench, "bob")
    assert in_turn(bench, 3) == [many[0], one, many[1]]
    assert in_turn(bench, 1) == [many[0]]


def test_who_has_something_under_way_waits_for_who_has_not(bench: Bench) -> None:
    ask(bench, "alice", status=Status.RUNNING)
    more = ask(bench, "alice", 2)
    (one,) = ask(bench, "bob")
    assert in_turn(bench, 1) == [one]
    assert in_turn(bench, 9) == [one, *more]


def test_priorities_order_what_one_has_asked_for_and_give_nobody_anothers_turn(bench: Bench) -> None:
    later = ask(bench, "alice", 2, priority=1)
    urgent = ask(bench, "alice", priority=5)
    (one,) = ask(bench, "bob", priority=1)
    assert in_turn(bench, 4) == [urgent[0], one, later[1], later[0]]


def test_what_is_not_due_has_no_turn(bench: Bench) -> None:
    ask(bench, "alice", run_after=bench.clock.now() + timedelta(seconds=1))
    ask(bench, "bob", status=Status.FAILED)
    assert in_turn(bench, 5) == []
    bench.clock.advance(1)
    assert len(in_turn(bench, 5)) == 1


def test_an_item_without_a_requester_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="without has no turn"):
        ask(bench, "")


def test_whose_turn_it_is_is_read_from_the_index(bench: Bench) -> None:
    ask(bench, "alice", 3000, run_after=bench.clock.now() + timedelta(days=365 * 100))
    ask(bench, "bob")
    with bench.sessions.begin() as session:
        session.execute(text("ANALYZE"))
        plans = plans_of(
            session, lambda s: next_in_turn(s, SHARED, limit=5, clock=SystemClock(), chance=lambda: 0.5)
        )
    for plan in plans:
        assert "ix_work_items_turns" in plan, plan
        assert "SCAN work_items" not in plan, plan
        assert "Seq Scan on work_items" not in plan, plan


def test_a_wait_after_progress_is_not_the_wait_that_calls_for_attention(bench: Bench, item: int) -> None:
    def wait(made_progress: bool) -> WorkItem:
        def behave(_: Job[Any]) -> Wait:
            return Wait(1, "for more", made_progress=made_progress)

        bench.clock.advance(1)
        return bench.run(item, behave)

    wait(False)
    bench.clock.advance(POLICY.attention_after_seconds)
    assert not wait(True).needs_attention
    assert not wait(False).needs_attention
    bench.clock.advance(POLICY.attention_after_seconds)
    assert wait(False).needs_attention


def test_a_worker_goes_by_turns_whatever_the_messages_name(bench: Bench) -> None:
    bench.pipelines = PIPELINES
    many = ask(bench, "alice", 4)
    (one,) = ask(bench, "bob")
    begun: list[str] = []

    def behave(job: Job[Any]) -> Done:
        begun.append(job.claim.identifier)
        if len(begun) == len(many) + 1:
            loop.call_soon_threadsafe(worker.halt)
        return Done("sent")

    async def story() -> None:
        for item_id in range(1, len(many) + 1):
            assert await worker.offer(SHARED.queue, str(item_id).encode())
        assert begun == [], "a message only wakes"
        await worker.run()

    worker, loop = a_worker(bench, behave), asyncio.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(story(), 60))
    loop.close()
    assert sorted(begun) == sorted([*many, one])
    assert begun.index(one) <= 1


def a_worker(bench: Bench, behave: Behaviour) -> Worker:
    """With one slot."""
    runner = bench.runner("send", behave)
    return Worker(
        runner=runner,
        presence=Presence("host/toy/1", "host", 1, ("toy",), ()),
        sessions=bench.sessions,
        broker=bench.broker,
        settings=WorkSettings(sweep_seconds=0.05),
        concurrency=1,
        chores=[],
        clock=bench.clock,
        log=runner.log,
        metrics=WorkerMetrics(),
    )
