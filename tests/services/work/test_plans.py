"""What every worker asks the database all the time reads the entries of an index that are due, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.orm import Session

from dpn.clock import SystemClock
from dpn.database import Sessions
from dpn.work import leases, steps
from dpn.work.items import new_item
from dpn.work.schedule.sweep import announce_due_items
from dpn.work.steps import Step
from models.work import Task, WorkItem
from workers.pipelines import PIPELINES

CLOCK = SystemClock()
SPECS = PIPELINES.all_specs()
WAITING = 3000
"""Enough for a planner to prefer an index; all are due in an hour."""

Ask = Callable[[Session], object]


def sweep_of_a_worker(session: Session) -> object:
    return leases.due_items(session, stages=SPECS, volumes=("a",), limit=5, clock=CLOCK)


def sweep_of_the_queue(session: Session) -> object:
    return announce_due_items(session, pipelines=PIPELINES, clock=CLOCK, crowded=lambda _: False)


@pytest.mark.parametrize("ask", [sweep_of_a_worker, sweep_of_the_queue])
def test_a_sweep_reads_only_what_is_due(sessions: Sessions, ask: Ask) -> None:
    let_many_wait(sessions)
    with sessions.begin() as session:
        plans = plans_of(session, ask)
    assert len(plans) == 2 * len(SPECS), "of each stage what waits, and what is held"
    for plan in plans:
        assert "SCAN work_items" not in plan, plan
        assert "Seq Scan on work_items" not in plan, plan
    of_waiting = [plan for plan in plans if bounded_by_run_after(plan)]
    assert len(of_waiting) >= len(SPECS), plans
    assert not any(word in plan for plan in of_waiting for word in ("TEMP B-TREE", "Sort")), plans


def bounded_by_run_after(plan: str) -> bool:
    """SQLite: `run_after<?` of an index; PostgreSQL: a condition of the index, not a filter of what it gave."""
    return any(
        ("USING INDEX ix_work_items_due" in line and "run_after<?" in line)
        or ("Index Cond:" in line and "run_after <= (statement_timestamp() +" in line)
        for line in plan.splitlines()
    )


def let_many_wait(sessions: Sessions) -> None:
    row = new_item(
        task=Task.REPLICATION, identifier="", remote_node="north", note="", manifest={}, pipelines=PIPELINES,
        clock=CLOCK,
    )  # fmt: skip
    with sessions.begin() as session:
        later = session.scalar(select(CLOCK.in_database(3600.0)))
        row |= dict.fromkeys(("run_after", "created_at", "updated_at"), later)
        session.execute(insert(WorkItem), [row | {"identifier": str(number)} for number in range(WAITING)])
        session.execute(text("ANALYZE"))


def plans_of(session: Session, ask: Ask) -> list[str]:
    """How the database goes about each statement that `ask` has it execute."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", note)
    ask(session)
    event.remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return [
        "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))
        for statement, parameters in asked
    ]


def next_steps(session: Session) -> object:
    return steps.due(session, 1, limit=100, clock=CLOCK)


def when_the_next_step_is_due(session: Session) -> object:
    return steps.next_due_at(session, 1)


@pytest.mark.parametrize("ask", [next_steps, when_the_next_step_is_due])
def test_what_is_next_of_an_item_is_found_among_a_few_of_its_steps(sessions: Sessions, ask: Ask) -> None:
    """However many it has, and others have, that are done or wait for later."""
    let_many_wait(sessions)
    with sessions.begin() as session:
        for item in (1, 2):
            steps.add(session, item, [Step(number=n, source="a", target="b") for n in range(WAITING)], CLOCK)
        session.execute(text("ANALYZE"))
        (plan,) = plans_of(session, ask)
    assert "ix_work_steps_due" in plan, plan
    assert not any(word in plan for word in ("TEMP B-TREE", "Sort", "Seq Scan", "SCAN")), plan
