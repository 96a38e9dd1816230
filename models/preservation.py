"""The copies that this node keeps, and when each was last proven: what fixity checks are planned from."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, RowId, UtcDateTime, Uuid


class StoredCopy(Base):
    """Our copy of a bag: what the store's receipt says, and how its last fixity check ended.

    `due_at` is when the next check shall begin at the latest: set when the bag is stored and after each check.
    """

    __tablename__ = "stored_copies"
    __table_args__ = (
        CheckConstraint("outcome IN ('unchecked', 'good', 'bad')", name="outcome"),
        Index("ix_stored_copies_due_at", "due_at", "bag"),
        Index("ix_stored_copies_outcome", "outcome", "bag"),
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
