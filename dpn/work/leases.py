"""Claims at most one holder per item; a holder that stops extending loses it after `lease_seconds`.

A claim is one conditional UPDATE that also raises the item's token. Every later write of the holder names that
token and changes nothing if it is no longer the item's (fencing). The clock is the database's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.errors import LeaseLost
from dpn.work.lifecycle import Position
from dpn.work.pipeline import StageSpec
from models.work import Status, WorkItem


@dataclass(frozen=True)
class Claim:
    """An item that this worker holds, as it was when claimed."""

    item_id: int
    token: int
    task: str
    identifier: str
    remote_node: str | None
    stage: str
    attempts: int
    waiting_since: datetime | None
    staging_volume: str | None
    note: str
    manifest: dict[str, Any]

    @property
    def position(self) -> Position:
        # The manifest may be damaged: then nobody reads it, and this does not matter.
        manifest = self.manifest if isinstance(self.manifest, dict) else {}
        # An operator's retry makes a token, too, and no attempt.
        deaths = max(0, min(self.token - 1 - _last_token(manifest), self.attempts - 1))
        restarts = manifest.get("restarts", 0)
        return Position(self.task, self.stage, self.attempts - deaths, self.waiting_since, restarts, deaths)


def _last_token(manifest: dict[str, Any]) -> int:
    """Of the last run of the item that said how it went."""
    summaries = manifest.get("summaries")
    stages = summaries.values() if isinstance(summaries, dict) else ()
    tokens = (stage.get("token") for stage in stages if isinstance(stage, dict))
    return max((token for token in tokens if isinstance(token, int)), default=0)


def claim(
    session: Session,
    item_id: int,
    *,
    worker: str,
    stages: Collection[StageSpec],
    volumes: Collection[str],
    lease_seconds: float,
    clock: Clock,
    served: Collection[str | None] = (),
) -> Claim | None:
    """Takes the item if it is due, free, at one of `stages` and not on a volume we do not mount; else None.

    `served` are nodes that have their share of this worker: no stage is begun for them whose pace is theirs.
    """
    row = session.execute(
        update(WorkItem)
        .where(WorkItem.id == item_id, claimable(stages, volumes, clock, served))
        .values(
            status=Status.RUNNING,
            attempts=WorkItem.attempts + 1,
            lease_owner=worker,
            lease_token=WorkItem.lease_token + 1,
            lease_expires_at=clock.in_database(lease_seconds),
            updated_at=clock.in_database(),
        )
        .returning(
            WorkItem.id.label("item_id"),
            WorkItem.lease_token.label("token"),
            WorkItem.task,
            WorkItem.identifier,
            WorkItem.remote_node,
            WorkItem.stage,
            WorkItem.attempts,
            WorkItem.waiting_since,
            WorkItem.staging_volume,
            WorkItem.note,
            WorkItem.manifest,
        )
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else Claim(**row._asdict())


def due_items(
    session: Session,
    *,
    stages: Iterable[StageSpec],
    volumes: Collection[str],
    limit: int,
    clock: Clock,
    served: Collection[str | None] = (),
) -> list[int]:
    """Up to `limit` items that could be claimed now, longest due first. Reads only index entries that are due.

    Of a shared stage only those whose holders are gone: what is due there, `dpn.work.schedule.turns` tells.
    """
    found: list[tuple[datetime, int]] = []
    for spec in stages:
        ready, expired = ready_or_expired(clock)
        for condition in (expired,) if spec.shared else (ready, expired):
            statement = (
                select(WorkItem.run_after, WorkItem.id)
                .where(condition, _may_begin(spec, served), _on_mounted(volumes))
                .order_by(WorkItem.run_after, WorkItem.id)
                .limit(limit)
            )
            found += [(run_after, item_id) for run_after, item_id in session.execute(statement)]
    return [item_id for _, item_id in sorted(found)[:limit]]


def extend(session: Session, held: Sequence[tuple[int, int]], *, lease_seconds: float, clock: Clock) -> set[int]:
    """Extends the leases of `held` (item id, token); returns the ids that are still held, all in one statement."""
    if not held:
        return set()
    ours = or_(*(and_(WorkItem.id == item_id, WorkItem.lease_token == token) for item_id, token in held))
    return set(
        session.scalars(
            update(WorkItem)
            .where(WorkItem.status == Status.RUNNING, ours)
            .values(lease_expires_at=clock.in_database(lease_seconds))
            .returning(WorkItem.id)
            .execution_options(synchronize_session=False)
        )
    )


def write_fenced(session: Session, item_id: int, token: int, values: dict[str, Any]) -> None:
    """Changes the item only if `token` is still its token; else raises LeaseLost, and nothing may be committed."""
    written = session.execute(
        update(WorkItem)
        .where(held_by(item_id, token))
        .values(**values)
        .returning(WorkItem.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if written is None:
        raise LeaseLost(f"item {item_id}: the lease with token {token} is no longer ours")


def holder(session: Session, item_id: int, token: int) -> str:
    """The worker that holds the item under this token. Raises LeaseLost if it is no longer held under it."""
    owner = session.scalar(select(WorkItem.lease_owner).where(held_by(item_id, token)))
    if owner is None:
        raise LeaseLost(f"item {item_id}: the lease with token {token} is no longer ours")
    return owner


def held_by(item_id: int, token: int) -> ColumnElement[bool]:
    """Whether the item is still held under this token."""
    return and_(WorkItem.id == item_id, WorkItem.lease_token == token, WorkItem.status == Status.RUNNING)


def claimable(
    stages: Collection[StageSpec], volumes: Collection[str], clock: Clock, served: Collection[str | None] = ()
) -> ColumnElement[bool]:
    """Whether a worker of these stages and volumes, with these nodes `served`, may take the item now."""
    return and_(
        or_(*ready_or_expired(clock)),
        or_(*(_may_begin(spec, served) for spec in stages)),
        _on_mounted(volumes),
    )


def ready_or_expired(clock: Clock) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """What makes an item due: its time has come, or its holder's has run out. Each is bounded by an index if it is
    asked for by itself, in the order of `run_after` and `id`."""
    now = clock.in_database()
    return (
        and_(WorkItem.status == Status.PENDING, WorkItem.run_after <= now),
        and_(WorkItem.status == Status.RUNNING, WorkItem.lease_expires_at < now),
    )


def at_stage(spec: StageSpec) -> ColumnElement[bool]:
    """Whether the item is at this stage of this task."""
    return and_(WorkItem.task == spec.task, WorkItem.stage == spec.name)


def _may_begin(spec: StageSpec, served: Collection[str | None]) -> ColumnElement[bool]:
    if not (served and spec.other_nodes_pace):
        return at_stage(spec)
    others = WorkItem.remote_node.not_in(sorted(node for node in served if node is not None))
    is_of_none = WorkItem.remote_node.is_(None)
    return and_(at_stage(spec), and_(others, ~is_of_none) if None in served else or_(others, is_of_none))


def _on_mounted(volumes: Collection[str]) -> ColumnElement[bool]:
    return or_(WorkItem.staging_volume.is_(None), WorkItem.staging_volume.in_(sorted(volumes)))
