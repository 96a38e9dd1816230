"""Which items come next at a stage that several requesters share: each has its turn, however much it asked for.

Who has least under way comes first. Priorities order what one requester has asked for, never one before another.
The cost grows with the number of requesters that wait, not with what they wait for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from sqlalchemy import ColumnElement, func, literal, literal_column, select, union_all
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.work.pipeline import StageSpec
from models.work import PRIORITIES, Status, WorkItem


def take_turns(waiting: Mapping[str, Sequence[int]], running: Mapping[str, int], limit: int) -> list[int]:
    """Up to `limit` items in the order in which they should begin. `waiting` has, for each requester in the order
    of their turns, its items in its own order; `running` how many it has under way."""
    under_way = {requester: running.get(requester, 0) for requester in waiting}
    left = {requester: iter(items) for requester, items in waiting.items()}
    chosen: list[int] = []
    while left and len(chosen) < limit:
        requester = min(left, key=lambda one: under_way[one])  # of equals the first: min is stable
        item = next(left[requester], None)
        if item is None:
            del left[requester]
        else:
            under_way[requester] += 1
            chosen.append(item)
    return chosen


def next_in_turn(
    session: Session, spec: StageSpec, *, limit: int, clock: Clock, chance: Callable[[], float]
) -> list[int]:
    """Up to `limit` items of a shared stage that could begin now. `chance`, in [0, 1), decides between equals."""
    running = _running(session, spec)
    in_turn = sorted(_requesters(session, spec), key=lambda one: (running[one], chance()))
    waiting: dict[str, Sequence[int]] = {}
    found = 0
    for requester in in_turn:
        if found >= limit and running[requester] > min(running[one] for one in waiting):
            break  # whoever follows has more under way, and there is enough already
        if items := _due_of(session, spec, requester, limit, clock):
            waiting[requester] = items
            found += len(items)
            if len(waiting) >= limit:
                break
    return take_turns(waiting, running, limit)


def _running(session: Session, spec: StageSpec) -> Counter[str]:
    rows = session.execute(
        select(WorkItem.requester, func.count()).where(*_at(spec, Status.RUNNING)).group_by(WorkItem.requester)
    )
    return Counter({row[0]: row[1] for row in rows})


def _requesters(session: Session, spec: StageSpec) -> Iterator[str]:
    """All that wait, by one look at the index for each."""
    here = _at(spec, Status.PENDING)
    first = select(func.min(WorkItem.requester).label("requester")).where(*here)
    found = first.cte("requesters", recursive=True)
    following = select(func.min(WorkItem.requester)).where(*here, WorkItem.requester > found.c.requester)
    found = found.union_all(select(following.scalar_subquery()).where(found.c.requester.is_not(None)))
    return iter([name for name in session.scalars(select(found.c.requester)) if name is not None])


def _due_of(session: Session, spec: StageSpec, requester: str, limit: int, clock: Clock) -> list[int]:
    """Of each priority by itself, so that the index bounds what is read of those that wait for later."""
    here = (*_at(spec, Status.PENDING), WorkItem.requester == requester, WorkItem.run_after <= clock.in_database())
    of_each = [
        select(literal(priority).label("priority"), WorkItem.run_after, WorkItem.id)
        .where(*here, WorkItem.priority == priority)
        .order_by(WorkItem.run_after, WorkItem.id)
        .limit(limit)
        .subquery()
        for priority in PRIORITIES
    ]
    due = union_all(*(select(one) for one in of_each)).subquery()
    statement = select(due.c.id).order_by(due.c.priority.desc(), due.c.run_after, due.c.id).limit(limit)
    return list(session.scalars(statement))


def _at(spec: StageSpec, status: Status) -> tuple[ColumnElement[bool], ...]:
    return (
        WorkItem.task == spec.task,
        WorkItem.stage == spec.name,
        WorkItem.status == status,
        literal_column("work_items.requester <> ''"),  # in these words, or the index is not used
    )
