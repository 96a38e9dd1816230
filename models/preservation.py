"""The copies that this node keeps, and when each was last proven: what fixity checks are planned from, and how
much of them was begun lately."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Float, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, RowId, UtcDateTime, Uuid


class StoredCopy(Base):
    """Our copy of a bag: what the store's receipt says, and how its last fixity check ended.

    `due_at` is when the next check shall begin at the latest: set when the bag is stored and after each check.
    """

    __tablename__ = "stored_copies"
    __table_args__ = (
        CheckConstraint("outcome IN ('unchecked', 'good', 'bad')", name="outcome"),
        # What is planned and reported is read in indexes alone: receipts make rows long.
        Index("ix_stored_copies_due_at", "due_at", "bag", "size"),
        Index("ix_stored_copies_bag", "bag", "outcome", "checked_at", "due_at", "size"),
    )

    bag: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[int | None] = mapped_column(RowId)
    """The item that stored it."""
    store: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(255))
    url: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    tag_manifest_sha256: Mapped[str] = mapped_column(String(64))
    receipt: Mapped[dict[str, Any]] = mapped_column(JSON)
    stored_at: Mapped[datetime] = mapped_column(UtcDateTime)
    checked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[str] = mapped_column(String(16), default="unchecked")
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    begun_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its last check began."""
    check_item: Mapped[int | None] = mapped_column(RowId)
    """The item of that check; of a copy that was found bad, that of its repair."""


class KnownStore(Base):
    """A store of ours, and the marker that it bears (dpn.storage.ownership)."""

    __tablename__ = "known_stores"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    marker: Mapped[str] = mapped_column(String(64))
    """The marker's id."""
    marked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the store was first seen to bear it; None while it is being marked."""


class FixityPace(Base):
    """How much may begin now, one row: whoever makes checks holds its lock, so that two never begin the same."""

    __tablename__ = "fixity_pace"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    credit: Mapped[float] = mapped_column(Float, default=0.0)
    """Work (see `dpn.fixity.schedule`) that may begin; what was begun beyond it is owed, and negative."""
    paced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Up to when work has been credited."""
    items_taken_in: Mapped[int] = mapped_column(RowId, default=0)
    """Up to which item copies were entered that were stored before this table was there."""


class FixityHour(Base):
    """How many checks began in an hour; kept for a month, for the limits."""

    __tablename__ = "fixity_hours"

    hour: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    checks: Mapped[int] = mapped_column(Integer)
    bytes: Mapped[int] = mapped_column(BigInteger)


class DrilledBag(Base):
    """A bag that a restore drill brings back: the item that does it says how it goes."""

    __tablename__ = "drilled_bags"
    __table_args__ = (Index("ix_drilled_bags_reported_at", "reported_at", "drill_id"),)

    item_id: Mapped[int] = mapped_column(RowId, primary_key=True)
    drill_id: Mapped[str] = mapped_column(Uuid)
    """The same for all bags of one drill."""
    source: Mapped[str] = mapped_column(String(64))
    """`store:<name>` for our own copy, `peer:<namespace>` for another node's."""
    bag: Mapped[str] = mapped_column(Uuid)
    begun_at: Mapped[datetime] = mapped_column(UtcDateTime)
    reported_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a report first told how it ended; None while it has not."""


class ColdRequest(Base):
    """A copy that was asked out of cold storage: noted before the store is asked, kept for a year."""

    __tablename__ = "cold_requests"
    __table_args__ = (
        Index("ix_cold_requests_requested_at", "requested_at", "bytes"),
        Index("ix_cold_requests_item_id", "item_id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    item_id: Mapped[int | None] = mapped_column(RowId)
    """None if an operator's command asked."""
    bag: Mapped[str] = mapped_column(Uuid)
    tier: Mapped[str] = mapped_column(String(16))
    bytes: Mapped[int] = mapped_column(BigInteger)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
