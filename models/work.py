"""Work items and what keeps them safe: leases, dispatch intents, events, reservations, workers' heartbeats."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Namespace, RowId, UtcDateTime, Uuid


class Task(StrEnum):
    """What an item is for; each task has one pipeline of stages."""

    REPLICATION = "replication"
    INGEST = "ingest"
    """A deposit that becomes a bag with as many copies as are wanted."""
    FIXITY = "fixity"
    """A check of our copy of a bag; the item's identifier is the id that its FixityCheck record gets."""
    RESTORE = "restore"
    """Our copy of a bag, asked back by another node; the identifier is that of its restore transfer."""
    RECOVERY = "recovery"
    """A good copy of a bag that we ask another node for: a repair, its identifier that of the check that found our
    copy bad, or a drill."""
    NOTICE = "notice"
    """Something we owe another node (a cancellation): kept until that node has heard it."""


class Status(StrEnum):
    """Where an item stands. `PENDING` is ready, waiting or retrying: `run_after` and `note` say which."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (Status.SUCCESS, Status.FAILED, Status.CANCELLED)


PRIORITIES = range(1, 6)
"""From what can wait to what is most urgent."""
DEFAULT_PRIORITY = 3


class WorkItem(Base):
    """One job: a task, the identifier it is about, the stage it is at, and its manifest.

    `lease_token` grows with every claim: a write that does not carry the current token changes nothing.
    """

    __tablename__ = "work_items"
    __table_args__ = (
        UniqueConstraint("task", "identifier"),
        CheckConstraint("status IN ('pending', 'running', 'success', 'failed', 'cancelled')", name="status"),
        Index("ix_work_items_due", "status", "task", "stage", "run_after", "id"),
        Index("ix_work_items_expired", "status", "lease_expires_at"),
        Index("ix_work_items_staging_volume", "staging_volume", "status"),
        Index("ix_work_items_attention", "needs_attention", "id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    task: Mapped[str] = mapped_column(String(32))
    identifier: Mapped[str] = mapped_column(String(255))
    remote_node: Mapped[str | None] = mapped_column(Namespace)
    requester: Mapped[str] = mapped_column(String(255), default="", server_default="")
    """Who asked for it, where several share the workers of a stage, e.g. `token:alice`; empty where there are no
    turns."""
    priority: Mapped[int] = mapped_column(
        SmallInteger, default=DEFAULT_PRIORITY, server_default=str(DEFAULT_PRIORITY)
    )
    """How urgent it is among what its requester asked for."""
    stage: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16), default=Status.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    """Runs of the present stage that count against its budget, the running one included."""
    run_after: Mapped[datetime] = mapped_column(UtcDateTime)
    waiting_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the present stage first had to wait or retry: does not move until the stage is done."""
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_token: Mapped[int] = mapped_column(BigInteger, default=0)
    staging_volume: Mapped[str | None] = mapped_column(String(36))
    """The volume that holds the item's staged bytes: only a worker that mounts it may claim the item."""
    note: Mapped[str] = mapped_column(Text, default="")
    needs_attention: Mapped[bool] = mapped_column(Boolean, default=False)
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Deposit(Base):
    """What somebody deposited with us: submitted again with the same key, it is the same deposit."""

    __tablename__ = "deposits"
    __table_args__ = (UniqueConstraint("first_version_uuid", "version"),)

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of what makes two deposits the same, or of the key that the depositor gave."""
    bag: Mapped[str] = mapped_column(Uuid, unique=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("work_items.id"), index=True)
    member: Mapped[str] = mapped_column(Uuid)
    local_id: Mapped[str] = mapped_column(String(1024), index=True)
    first_version_uuid: Mapped[str] = mapped_column(Uuid)
    version: Mapped[int] = mapped_column(Integer)
    submitted_by: Mapped[str] = mapped_column(String(255))
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DispatchIntent(Base):
    """A message that must reach the queue: written with the change that causes it, removed once published."""

    __tablename__ = "dispatch_intents"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("work_items.id", ondelete="CASCADE"), index=True)
    topic: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StepState(StrEnum):
    """Where a step stands. `WAITING` is ready or will be tried again: `due_at` and `error` say which."""

    WAITING = "waiting"
    DONE = "done"
    SKIPPED = "skipped"
    """There was nothing to do."""
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self is not StepState.WAITING


class WorkStep(Base):
    """One of the very many things that an item does one by one, e.g. an object that it copies.

    Written in batches, only by who holds the item. The manifest has the totals.
    """

    __tablename__ = "work_steps"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'done', 'skipped', 'failed')", name="state"),
        Index("ix_work_steps_due", "item_id", "state", "due_at", "number"),
    )

    item_id: Mapped[int] = mapped_column(ForeignKey("work_items.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """Counts from 1 in each item, in the order in which they were found."""
    source: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default=StepState.WAITING)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    size: Mapped[int | None] = mapped_column(BigInteger)
    expected: Mapped[str | None] = mapped_column(String(160))
    """The digest that whoever asked for it expects: algorithm, colon, hex."""
    bytes_done: Mapped[int] = mapped_column(BigInteger, default=0)
    error_class: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(String(64))
    receipt: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What proves that it was done, once it is."""
    begun: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What of it an interrupted try left that the next one goes on from, e.g. the parts of an upload."""


class AuditEvent(Base):
    """What happened to what, when and by whom (PREMIS event); only ever added."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_object", "object_id", "id"),
        Index("ix_audit_events_item", "item_id", "id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    event_type: Mapped[str] = mapped_column(String(64))
    """A term of the PREMIS event type vocabulary, or a transition of the item's lifecycle."""
    object_id: Mapped[str] = mapped_column(String(255))
    """The bag's uuid where the event is about a bag, else the identifier of the item."""
    item_id: Mapped[int | None] = mapped_column(RowId)
    agent: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class WorkProgress(Base):
    """How far the run is that holds an item, or last held it: its token says which."""

    __tablename__ = "work_progress"

    item_id: Mapped[int] = mapped_column(ForeignKey("work_items.id", ondelete="CASCADE"), primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)
    doing: Mapped[str] = mapped_column(String(255))
    bytes_done: Mapped[int] = mapped_column(BigInteger)
    bytes_total: Mapped[int | None] = mapped_column(BigInteger)
    files_done: Mapped[int] = mapped_column(BigInteger)
    files_total: Mapped[int | None] = mapped_column(BigInteger)
    bytes_per_second: Mapped[float | None] = mapped_column(Float)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class DiskReservation(Base):
    """Bytes promised to an item on a staging volume: one per item, gone when the item leaves the volume."""

    __tablename__ = "disk_reservations"
    __table_args__ = (CheckConstraint("bytes >= 0", name="bytes_positive"),)

    item_id: Mapped[int] = mapped_column(ForeignKey("work_items.id", ondelete="CASCADE"), primary_key=True)
    volume: Mapped[str] = mapped_column(ForeignKey("staging_volumes.name"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StagingVolume(Base):
    """A named staging volume. Reservations lock its row; `seen_at` is when a worker last mounted it."""

    __tablename__ = "staging_volumes"

    name: Mapped[str] = mapped_column(String(36), primary_key=True)
    reservations_made: Mapped[int] = mapped_column(Integer, default=0)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WorkerHeartbeat(Base):
    """A live worker process: where it runs, what it runs, which volumes it mounts, when it last said so."""

    __tablename__ = "worker_heartbeats"

    worker_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    stages: Mapped[list[str]] = mapped_column(JSON)
    volumes: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    running: Mapped[int] = mapped_column(Integer, default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class ServiceHealth(Base):
    """The breaker of one outside service (`peer:north`, `rsync:north`, `store:main`), shared by all workers."""

    __tablename__ = "service_health"

    service: Mapped[str] = mapped_column(String(128), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    open_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str] = mapped_column(Text, default="")
    failed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeadLetter(Base):
    """A message that named no item of ours, kept so that an operator can see what arrived."""

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    topic: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(String(1024))
    reason: Mapped[str] = mapped_column(String(255))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
