"""The steps of an item that does very many things one by one: added, taken and settled in batches.

Whoever adds or settles holds the item: that is checked in the same transaction (`Job.add_write`), which
keeps the totals of the manifest true, too. No call costs more than what it brings, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import insert_into, insert_missing
from dpn.work.notes import printable
from models.work import StepState, WorkStep

BATCH = 1000
"""How many steps are added at once."""

SETTLED_AT_ONCE = 200
"""How many steps are settled in one statement."""

MAX_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step as it stands. `due_in_seconds` counts when it is settled as waiting: from then on."""

    number: int
    source: str
    target: str
    size: int | None = None
    expected: str | None = None
    state: StepState = StepState.WAITING
    attempts: int = 0
    bytes_done: int = 0
    error_class: str | None = None
    error: str | None = None
    sha256: str | None = None
    receipt: dict[str, Any] | None = None
    begun: dict[str, Any] | None = None
    due_in_seconds: float = 0.0


def add(session: Session, item_id: int, steps: Sequence[Step], clock: Clock) -> None:
    """Adds steps; those of a number that there is already stay as they are, so that a commit whose answer was lost
    may be tried again."""
    now = _now(session, clock)
    for start in range(0, len(steps), BATCH):
        rows = [{"item_id": item_id, "due_at": now, **_columns(step)} for step in steps[start : start + BATCH]]
        insert_missing(session, WorkStep, rows)


def due(session: Session, item_id: int, *, limit: int, clock: Clock) -> list[Step]:
    """Up to `limit` steps that wait and whose time has come, longest due first."""
    statement = (
        select(WorkStep)
        .where(
            WorkStep.item_id == item_id,
            WorkStep.state == StepState.WAITING,
            WorkStep.due_at <= clock.in_database(),
        )
        .order_by(WorkStep.due_at, WorkStep.number)
        .limit(limit)
    )
    return [_step(row) for row in session.scalars(statement)]


def next_due_at(session: Session, item_id: int) -> datetime | None:
    """When the first of the steps that wait is due, maybe in the past; None if none waits."""
    waiting = (WorkStep.item_id == item_id, WorkStep.state == StepState.WAITING)
    return session.scalar(select(WorkStep.due_at).where(*waiting).order_by(WorkStep.due_at).limit(1))


def settle(session: Session, item_id: int, steps: Sequence[Step], clock: Clock) -> None:
    """Writes down how these steps of the item stand now, up to 200 in one statement."""
    now = _now(session, clock)
    for start in range(0, len(steps), SETTLED_AT_ONCE):
        rows = [
            {"item_id": item_id, "due_at": now + timedelta(seconds=step.due_in_seconds), **_columns(step)}
            for step in steps[start : start + SETTLED_AT_ONCE]
        ]
        statement = insert_into(session, WorkStep).values(rows)
        keys = ("item_id", "number", "source", "target", "expected")
        changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
        session.execute(statement.on_conflict_do_update(index_elements=["item_id", "number"], set_=changed))


def requeue_failed(session: Session, item_id: int, clock: Clock) -> int:
    """Has all failed steps tried again, with fresh attempts; returns how many there are."""
    again = {"state": StepState.WAITING, "attempts": 0, "error_class": None, "error": None}
    failed = (WorkStep.item_id == item_id, WorkStep.state == StepState.FAILED)
    return (
        session.connection()
        .execute(update(WorkStep).where(*failed).values(**again, due_at=clock.in_database()))
        .rowcount
    )


def page(
    session: Session, item_id: int, *, after: int = 0, limit: int = 100, state: StepState | None = None
) -> list[Step]:
    """The steps whose numbers follow `after`, in their order; only those in `state` if one is given."""
    wanted = [WorkStep.item_id == item_id, WorkStep.number > after]
    if state is not None:
        wanted.append(WorkStep.state == state)
    return [
        _step(row)
        for row in session.scalars(select(WorkStep).where(*wanted).order_by(WorkStep.number).limit(limit))
    ]


def counts(session: Session, item_id: int) -> dict[StepState, int]:
    """How many steps are in each state: reads all of the item's, so not for what is asked often."""
    rows = session.execute(
        select(WorkStep.state, func.count()).where(WorkStep.item_id == item_id).group_by(WorkStep.state)
    )
    return {StepState(state): count for state, count in rows}


def _now(session: Session, clock: Clock) -> datetime:
    return session.execute(select(clock.in_database())).scalar_one()


def _columns(step: Step) -> dict[str, Any]:
    error = None if step.error is None else printable(step.error)[:MAX_ERROR_CHARACTERS]
    return {
        "number": step.number,
        "source": step.source,
        "target": step.target,
        "size": step.size,
        "expected": step.expected,
        "state": step.state,
        "attempts": step.attempts,
        "bytes_done": step.bytes_done,
        "error_class": step.error_class,
        "error": error,
        "sha256": step.sha256,
        "receipt": step.receipt,
        "begun": step.begun,
    }


def _step(row: WorkStep) -> Step:
    return Step(
        number=row.number,
        source=row.source,
        target=row.target,
        size=row.size,
        expected=row.expected,
        state=StepState(row.state),
        attempts=row.attempts,
        bytes_done=row.bytes_done,
        error_class=row.error_class,
        error=row.error,
        sha256=row.sha256,
        receipt=row.receipt,
        begun=row.begun,
    )
