"""Makes a work item of every check that begins now; two that run at once make none twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import insert_missing, inserted_missing
from dpn.fixity.copies import lock_pace
from dpn.fixity.schedule import (
    AHEAD,
    COST_WINDOW_DAYS,
    DAY,
    Credit,
    DueCopy,
    DueDay,
    Lately,
    Limits,
    Load,
    choose,
    credited,
    pace_of,
)
from dpn.fixity.settings import FixitySettings
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.manifests import CheckManifest, CopyFacts
from models.preservation import FixityHour, StoredCopy
from models.work import Status, Task, WorkItem

NOT_AGAIN_DAYS = 7.0
"""A check that ended without a verdict (cancelled, given up) is not begun again sooner: it may end so again."""

YOUNGEST_DAYS = 1.0
"""A copy that was proven less than this ago is not read again yet."""

PART_OF_SHORT_PROMISE = 0.1
"""Where checks are promised every few days, the two above are so much of that time at most."""


def limits_of(settings: FixitySettings) -> Limits:
    """The operator's limits; 0 in the settings is none."""
    return Limits(
        settings.max_checks_per_run,
        settings.max_bytes_per_day or None,
        settings.max_retrieval_cost_per_month or None,
        settings.retrieval_cost_per_gb,
        settings.max_cold_bytes_per_month or None,
    )


def begin_checks(
    session: Session, settings: FixitySettings, *, agent: str, pipelines: Pipelines, clock: Clock, now: datetime
) -> tuple[int, list[str]]:
    """Makes the items of the checks that begin now, each with its event in the audit trail; returns how many, and
    the bags of copies whose rows are damaged: they stay due, and are looked at again after `NOT_AGAIN_DAYS`."""
    state = lock_pace(session)
    # Nothing is due later than one promised time from now: what is, was checked while a clock was wrong.
    latest = now + timedelta(days=settings.every_days)
    session.execute(update(StoredCopy).where(StoredCopy.due_at > latest).values(due_at=latest))
    pace = pace_of(demand(session), now, settings.every_days)
    credit = credited(Credit(state.credit, state.paced_at), pace, now)
    limits = limits_of(settings)
    chosen, credit = choose(
        _due_copies(session, settings, limits, now), credit, pace, limits, lately(session, now)
    )
    state.credit, state.paced_at = credit.work, credit.at
    if not chosen:
        return 0, []
    damaged = _make_items(session, [copy.bag for copy in chosen], agent, pipelines, clock, now)
    begun = [copy.size for copy in chosen if copy.bag not in damaged]
    _count(session, Load(len(begun), sum(begun)), now)
    return len(begun), damaged


def begin_check(
    session: Session,
    bag: str,
    *,
    identifier: str,
    note: str,
    agent: str,
    pipelines: Pipelines,
    clock: Clock,
    now: datetime,
    away: bool = False,
    check_id: str | None = None,
    after_repair: int | None = None,
) -> int | None:
    """Makes the item of a check of one copy, begun at once and whatever the pace; returns its id, None without a
    copy of ours. Done again with the same identifier, it makes nothing. What it reads counts for the limits.
    `away`: the copy is brought to a staging volume even where it could be read in place. `check_id`: the id that
    its record gets, if not `identifier`. `after_repair`: the item that has repaired the copy. A copy that another
    item repairs stays known as such.
    """
    made = session.scalar(select(WorkItem.id).where(_is_check(identifier)))
    copy = session.get(StoredCopy, bag, with_for_update=True)
    if made is not None or copy is None:
        return made
    row = new_item(
        task=Task.FIXITY,
        identifier=identifier,
        remote_node=None,
        note=note,
        manifest=_manifest(copy, away=away, check_id=check_id),
        pipelines=pipelines,
        clock=clock,
        now=now,
    )
    insert_missing(session, WorkItem, [row])
    item_id = session.scalars(select(WorkItem.id).where(_is_check(identifier))).one()
    copy.begun_at = now
    if after_repair == copy.check_item or repair_under_way(session, bag) is None:
        copy.check_item = item_id
    _count(session, Load(1, copy.size), now)
    announce(session, item_id, pipelines.first(Task.FIXITY).queue, now)
    detail = {"task": Task.FIXITY.value, "bag": bag, "because": note}
    record(session, [Event(EventType.ITEM_CREATED, bag, "pending", detail, item_id)], agent=agent, at=now)
    return item_id


def copy_facts(copy: StoredCopy) -> CopyFacts:
    """The copy as a manifest carries it."""
    return CopyFacts.model_validate({name: getattr(copy, name) for name in CopyFacts.model_fields})


def running_check(session: Session, bag: str) -> int | None:
    """The item of the check of our copy that is under way, if one is."""
    return session.scalar(
        select(WorkItem.id)
        .join(StoredCopy, StoredCopy.check_item == WorkItem.id)
        .where(
            StoredCopy.bag == bag,
            WorkItem.task == Task.FIXITY,
            WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
        )
    )


def repair_under_way(session: Session, bag: str) -> WorkItem | None:
    """The item that repairs our copy of this bag, if one does: found by the copy, among however many."""
    return session.scalar(
        select(WorkItem)
        .join(StoredCopy, StoredCopy.check_item == WorkItem.id)
        .where(
            StoredCopy.bag == bag,
            WorkItem.task == Task.RECOVERY,
            WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
        )
    )


def demand(session: Session) -> list[DueDay]:
    """What is due on each day, all copies together; read in an index alone, a row a day."""
    day = _due_day(session)
    rows = session.execute(select(day, func.count(), func.sum(StoredCopy.size)).group_by(day).order_by(day))
    return [
        DueDay(datetime.fromisoformat(text).replace(tzinfo=UTC), Load(checks, int(size)))
        for text, checks, size in rows
    ]


def lately(session: Session, now: datetime) -> Lately:
    """What has begun in the last day and month, by the hour, and how many checks have not ended."""
    sums = []
    for days in (1, COST_WINDOW_DAYS):
        began = FixityHour.hour.between(now - days * DAY, now + AHEAD)
        checks, size = session.execute(
            select(func.sum(FixityHour.checks), func.sum(FixityHour.bytes)).where(began)
        ).one()
        sums.append(Load(int(checks or 0), int(size or 0)))
    unfinished = session.execute(
        select(func.count()).where(
            WorkItem.task == Task.FIXITY, WorkItem.status.in_((Status.PENDING, Status.RUNNING))
        )
    ).scalar_one()
    return Lately(sums[0], sums[1], unfinished)


def _due_day(session: Session) -> ColumnElement[str]:
    """The UTC day on which a copy is due, as `2026-01-31`."""
    if session.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", StoredCopy.due_at), "YYYY-MM-DD")
    return func.date(StoredCopy.due_at)


def _due_copies(session: Session, settings: FixitySettings, limits: Limits, now: datetime) -> Sequence[DueCopy]:
    """As many as may begin in one run, oldest due first; none that is being checked, or was proven just now."""
    short = settings.every_days * PART_OF_SHORT_PROMISE
    latest_due = now + timedelta(days=settings.every_days - min(YOUNGEST_DAYS, short))
    not_since = now - timedelta(days=min(NOT_AGAIN_DAYS, short))
    is_running = (
        select(WorkItem.id)
        .where(WorkItem.id == StoredCopy.check_item, WorkItem.status.in_((Status.PENDING, Status.RUNNING)))
        .exists()
    )
    statement = (
        select(StoredCopy.bag, StoredCopy.size, StoredCopy.due_at)
        .where(
            StoredCopy.due_at <= latest_due,
            or_(
                StoredCopy.begun_at.is_(None),
                StoredCopy.begun_at <= StoredCopy.checked_at,
                StoredCopy.begun_at <= not_since,
                StoredCopy.begun_at > now + AHEAD,
            ),
            ~is_running,
        )
        .order_by(StoredCopy.due_at, StoredCopy.bag)
        .limit(settings.max_checks_per_run)
    )
    if limits.largest_copy is not None:
        statement = statement.where(StoredCopy.size <= limits.largest_copy)
    return [DueCopy(bag, size, due_at) for bag, size, due_at in session.execute(statement)]


def _is_check(identifier: str) -> ColumnElement[bool]:
    return and_(WorkItem.task == Task.FIXITY, WorkItem.identifier == identifier)


def _make_items(
    session: Session, bags: Sequence[str], agent: str, pipelines: Pipelines, clock: Clock, now: datetime
) -> list[str]:
    """Returns the bags whose copies cannot be read."""
    by_identifier: dict[str, StoredCopy] = {}
    manifests: dict[str, dict[str, Any]] = {}
    damaged: list[str] = []
    for copy in session.scalars(select(StoredCopy).where(StoredCopy.bag.in_(bags))):
        identifier = str(uuid4())
        try:
            manifests[identifier] = _manifest(copy)
        except ValidationError:
            damaged.append(copy.bag)
        else:
            by_identifier[identifier] = copy
    rows = [
        new_item(
            task=Task.FIXITY,
            identifier=identifier,
            remote_node=None,
            note=f"to be checked by {copy.due_at:%Y-%m-%d}",
            manifest=manifests[identifier],
            pipelines=pipelines,
            clock=clock,
            now=now,
        )
        for identifier, copy in by_identifier.items()
    ]
    made = inserted_missing(session, WorkItem, rows, WorkItem.id, WorkItem.identifier)
    begun = [{"bag": by_identifier[row.identifier].bag, "begun_at": now, "check_item": row.id} for row in made]
    if begun:
        session.execute(update(StoredCopy), begun)
    session.execute(update(StoredCopy).where(StoredCopy.bag.in_(damaged)).values(begun_at=now))
    events = [
        Event(
            EventType.ITEM_CREATED,
            row.identifier,
            "pending",
            {"task": Task.FIXITY.value, "bag": by_identifier[row.identifier].bag},
            row.id,
        )
        for row in made
    ]
    record(session, events, agent=agent, at=now)
    return damaged


def _manifest(copy: StoredCopy, *, away: bool = False, check_id: str | None = None) -> dict[str, Any]:
    return CheckManifest(copied=copy_facts(copy), away=away, check_id=check_id).model_dump(mode="json")


def _count(session: Session, load: Load, now: datetime) -> None:
    """Adds what begins now to its hour, and forgets hours that no limit asks about any more."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    insert_missing(session, FixityHour, [{"hour": hour, "checks": 0, "bytes": 0}])
    session.execute(
        update(FixityHour)
        .where(FixityHour.hour == hour)
        .values(checks=FixityHour.checks + load.checks, bytes=FixityHour.bytes + load.bytes)
    )
    session.execute(delete(FixityHour).where(FixityHour.hour < now - (COST_WINDOW_DAYS + 1) * DAY))
