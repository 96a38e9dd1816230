"""Finds what was lost: items whose message never came, and items whose staged bytes no live worker can reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, CursorResult, Row, and_, delete, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.work.leases import at_stage, ready_or_expired
from dpn.work.notes import printable
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce, announce_all
from models.base import UtcDateTime
from models.manifests import ManifestUnreadable
from models.work import DeadLetter, DiskReservation, DispatchIntent, StagingVolume, Status, WorkItem

BATCH = 500
DEAD_LETTERS_KEPT = 10_000


class DuePlace(NamedTuple):
    """A place among all due items: which stage and way to be due, as numbered below, then how long due."""

    number: int
    run_after: datetime
    item_id: int


FIRST_PLACE = DuePlace(0, datetime(1970, 1, 1, tzinfo=UTC), 0)


@dataclass(frozen=True)
class Announced:
    """What one batch came to."""

    items: list[int]
    last: DuePlace | None
    """Where the next batch goes on; None after the last one."""


def announce_due_items(
    session: Session,
    *,
    after: DuePlace = FIRST_PLACE,
    pipelines: Pipelines,
    clock: Clock,
    crowded: Callable[[str], bool],
) -> Announced:
    """Intends a message for a batch of due items that have none under way.

    On a `crowded` queue more than enough messages wait already: its workers are awake, and sweep for the rest.
    Items at a stage that this software does not know wait for a newer one.
    """
    ways = [(spec, due) for spec in pipelines.all_specs() for due in ready_or_expired(clock)]
    for number, (spec, due) in enumerate(ways[after.number :], after.number):
        found = _due_at(session, and_(at_stage(spec), due), after if number == after.number else FIRST_PLACE)
        if found:
            messages = [(item.id, spec.queue_on(item.staging_volume)) for item in found]
            messages = [(item_id, queue) for item_id, queue in messages if not crowded(queue)]
            announce_all(session, messages, clock.now())
            last = DuePlace(number, found[-1].run_after, found[-1].id)
            return Announced([item_id for item_id, _ in messages], last)
    return Announced([], None)


def _due_at(
    session: Session, where: ColumnElement[bool], after: DuePlace
) -> Sequence[Row[int, datetime, str | None]]:
    """A batch of items that nothing announces yet, longest due first; an index bounds it."""
    announced = select(DispatchIntent.id).where(DispatchIntent.item_id == WorkItem.id).exists()
    order = (WorkItem.run_after, WorkItem.id)
    place = tuple_(literal(after.run_after, UtcDateTime()), literal(after.item_id))
    return session.execute(
        select(WorkItem.id, WorkItem.run_after, WorkItem.staging_volume)
        .where(where, ~announced, tuple_(*order) > place)
        .order_by(*order)
        .limit(BATCH)
    ).all()


def forget_dead_letters(session: Session, *, keep: int = DEAD_LETTERS_KEPT) -> int:
    """Keeps the newest dead letters: nobody who can publish shall fill the database. Answers how many went."""
    newest = select(func.max(DeadLetter.id)).scalar_subquery()
    result = session.execute(delete(DeadLetter).where(DeadLetter.id <= newest - keep))
    return cast("CursorResult[Any]", result).rowcount


@dataclass(frozen=True)
class Abandoned:
    """What one batch came to."""

    items: list[int]
    """Freed from the volume; sent back to the stage that stages them, unless they are stored already."""
    unreadable: list[int]
    """Left alone: their manifests are newer than this software, or damaged."""
    last_id: int | None
    """Where the next batch goes on; None after the last one."""


def abandon_lost_volumes(
    session: Session,
    *,
    after_id: int,
    abandon_after_seconds: float,
    pipelines: Pipelines,
    worker: str,
    clock: Clock,
) -> Abandoned:
    """Sends a batch of items back to the stage that stages them, if no live worker has mounted their volume since
    `abandon_after_seconds`; those that are stored already just leave the volume."""
    lost = select(StagingVolume.name).where(StagingVolume.seen_at < clock.in_database(-abandon_after_seconds))
    _, expired = ready_or_expired(clock)
    held_by_nobody = or_(WorkItem.status == Status.PENDING, expired)
    items = session.scalars(
        select(WorkItem)
        .where(WorkItem.staging_volume.in_(lost), held_by_nobody, WorkItem.id > after_id)
        .order_by(WorkItem.id)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    events = [_start_over(session, item, pipelines, clock) for item in items]
    started_over = [event.item_id for event in events if event is not None and event.item_id is not None]
    session.execute(delete(DiskReservation).where(DiskReservation.item_id.in_(started_over)))
    record(session, [event for event in events if event is not None], agent=worker, at=clock.now())
    unreadable = [item.id for item in items if item.id not in started_over]
    return Abandoned(started_over, unreadable, items[-1].id if items else None)


def _start_over(session: Session, item: WorkItem, pipelines: Pipelines, clock: Clock) -> Event | None:
    volume = item.staging_volume
    try:
        manifest = pipelines.read_manifest(item.task, item.manifest)
        here, spec = pipelines.spec(item.task, item.stage), pipelines.staging_stage(item.task)
    except (ManifestUnreadable, KeyError) as error:  # KeyError: a task or a stage of a newer software
        item.needs_attention = True
        item.note = printable(f"staging volume {volume} is gone, and {error}")
        return None
    note = f"no live worker mounts staging volume {volume}: staged anew"
    manifest.forget_staged()
    if manifest.needs_no_staging:  # what else is to be done, its own stage knows
        spec = here
        note = f"no live worker mounts staging volume {volume}; what lay there is needed no more"
    item.manifest = manifest.model_dump(mode="json")
    item.stage, item.status, item.attempts = spec.name, Status.PENDING, 0
    item.run_after, item.updated_at = clock.in_database(), clock.in_database()
    item.lease_token += 1
    item.lease_owner = item.lease_expires_at = item.staging_volume = item.waiting_since = None
    item.note = note
    announce(session, item.id, spec.queue, clock.now())
    return Event(EventType.STAGED_COPY_LOST, item.identifier, "started over", {"volume": volume}, item.id)
