"""Steps are added and settled with what their item says of them, by its holder only, at the cost of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, func, select

from dpn.clock import ManualClock
from dpn.database import Sessions, reading
from dpn.errors import LeaseLost
from dpn.work import steps
from dpn.work.outcomes import Done, Wait
from dpn.work.steps import Step
from models.work import Status, StepState, WorkStep
from tests.fixtures.scripted.bench import LEASE_SECONDS, Bench
from workers.stage import Job


def numbered(first: int, last: int) -> list[Step]:
    return [Step(number=n, source=f"a/{n}", target=f"b/{n}", size=n) for n in range(first, last + 1)]


def stored(sessions: Sessions, item: int) -> list[Step]:
    with reading(sessions) as session:
        return steps.page(session, item, limit=10_000)


def due(bench: Bench, item: int, limit: int = 100) -> list[int]:
    with reading(bench.sessions) as session:
        return [step.number for step in steps.due(session, item, limit=limit, clock=bench.clock)]


def add(bench: Bench, item: int, new: Sequence[Step]) -> None:
    with bench.sessions.begin() as session:
        steps.add(session, item, new, bench.clock)


def settle(bench: Bench, item: int, settled: Sequence[Step]) -> None:
    with bench.sessions.begin() as session:
        steps.settle(session, item, settled, bench.clock)


def test_steps_and_what_the_manifest_says_of_them_are_saved_together(bench: Bench, item: int) -> None:
    def walk(job: Job[Any]) -> Wait:
        job.add_steps(numbered(1, 3))
        assert stored(bench.sessions, item) == []
        job.save("three found")
        job.add_steps(numbered(4, 4))
        return Wait(1, "one more")

    bench.run(item, walk)
    assert [step.number for step in stored(bench.sessions, item)] == [1, 2, 3, 4]
    bench.clock.advance(1)

    def work(job: Job[Any]) -> Done:
        job.settle([replace(step, state=StepState.DONE, bytes_done=step.size or 0) for step in numbered(1, 4)])
        return Done("all there")

    bench.run(item, work)
    assert {(step.state, step.bytes_done == step.size) for step in stored(bench.sessions, item)} == {
        (StepState.DONE, True)
    }


def test_who_has_lost_the_item_adds_and_settles_nothing(bench: Bench, item: int) -> None:
    add(bench, item, numbered(1, 1))

    def too_late(job: Job[Any]) -> Done:
        bench.clock.advance(LEASE_SECONDS + 1)
        bench.claim(item, worker="b")
        job.add_steps(numbered(2, 2))
        job.settle([replace(numbered(1, 1)[0], state=StepState.DONE)])
        with pytest.raises(LeaseLost):
            job.save()
        return Done("it thinks")

    bench.run(item, too_late)
    assert stored(bench.sessions, item) == numbered(1, 1)
    assert bench.item(item).status == Status.RUNNING


def test_what_was_added_before_stays_as_it_is(bench: Bench, item: int) -> None:
    """The commit that added it may have been heard of too late, and is tried again."""
    add(bench, item, numbered(1, 2))
    done = replace(numbered(1, 1)[0], state=StepState.DONE, sha256="0" * 64)
    settle(bench, item, [done])
    add(bench, item, numbered(1, 3))
    assert stored(bench.sessions, item) == [done, *numbered(2, 3)]


def test_all_that_is_known_of_a_step_comes_back(bench: Bench, item: int) -> None:
    step = Step(
        number=7,
        source="a/b c",
        target="\u00e9#?%",
        size=2**40,
        expected="sha256:" + "a" * 64,
        state=StepState.DONE,
        attempts=3,
        bytes_done=2**40,
        error_class="network",
        error="it broke off",
        sha256="a" * 64,
        receipt={"key": "x", "size": 2**40},
        begun={"upload": "u", "parts": [1, 2]},
    )
    add(bench, item, [step])
    assert stored(bench.sessions, item) == [step]
    settle(bench, item, [replace(step, error="with\0control\x1bcharacters" + "x" * 5000, receipt=None)])
    (found,) = stored(bench.sessions, item)
    assert found.receipt is None
    assert found.error is not None
    assert found.error.isprintable()
    assert len(found.error) <= steps.MAX_ERROR_CHARACTERS


def test_waiting_steps_come_in_the_order_in_which_they_are_due(bench: Bench, item: int) -> None:
    add(bench, item, numbered(1, 4))
    first, second, third, _ = numbered(1, 4)
    settle(
        bench,
        item,
        [
            replace(first, attempts=1, due_in_seconds=30),
            replace(second, state=StepState.FAILED),
            replace(third, state=StepState.SKIPPED),
        ],
    )
    assert due(bench, item) == [4]
    bench.clock.advance(30)
    assert due(bench, item) == [4, 1]
    assert due(bench, item, limit=1) == [4]
    with bench.sessions.begin() as session:
        assert steps.requeue_failed(session, item, bench.clock) == 1
    assert due(bench, item) == [4, 1, 2]


def test_when_the_next_step_is_due(bench: Bench, item: int, clock: ManualClock) -> None:
    def next_in() -> float | None:
        with reading(bench.sessions) as session:
            at = steps.next_due_at(session, item)
        return None if at is None else (at - clock.now()).total_seconds()

    assert next_in() is None
    add(bench, item, numbered(1, 1))
    settle(bench, item, [replace(numbered(1, 1)[0], attempts=1, due_in_seconds=45)])
    assert next_in() == 45
    settle(bench, item, [replace(numbered(1, 1)[0], state=StepState.FAILED)])
    assert next_in() is None


def test_an_item_sees_and_changes_its_own_steps_only(bench: Bench, item: int) -> None:
    other = bench.make_item(2)
    add(bench, item, numbered(1, 2))
    add(bench, other, numbered(1, 3))
    settle(bench, other, [replace(step, state=StepState.FAILED) for step in numbered(1, 3)])
    with bench.sessions.begin() as session:
        assert steps.counts(session, other) == {StepState.FAILED: 3}
        assert steps.requeue_failed(session, item, bench.clock) == 0
        assert steps.page(session, other, after=1, limit=1, state=StepState.FAILED)[0].number == 2
    assert due(bench, item) == [1, 2]


@pytest.mark.parametrize("count", [1, 200, 450])
def test_a_batch_is_settled_in_one_statement_for_two_hundred(bench: Bench, item: int, count: int) -> None:
    add(bench, item, numbered(1, count))
    said: list[str] = []
    engine = bench.sessions.kw["bind"]

    def listen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT INTO work_steps" in statement:
            said.append(statement)

    event.listen(engine, "before_cursor_execute", listen)
    settle(bench, item, [replace(step, state=StepState.DONE) for step in numbered(1, count)])
    event.remove(engine, "before_cursor_execute", listen)
    assert len(said) == -(-count // 200)
    with reading(bench.sessions) as session:
        assert session.scalar(select(func.count()).where(WorkStep.state == StepState.DONE)) == count
