"""What came from outside and what is owed there: kept until it is settled, and some time longer."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, RowId, UtcDateTime, Uuid


class ReceivedMessage(Base):
    """A message that came through a door: written with what it caused, before the door settles it there."""

    __tablename__ = "received_messages"
    __table_args__ = (
        Index("ix_received_messages_digest", "door", "digest", "settled_at"),
        Index("ix_received_messages_received_at", "received_at"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    door: Mapped[str] = mapped_column(String(64))
    message_id: Mapped[str | None] = mapped_column(String(128))
    """What the broker calls it, where that stays the same when it is delivered again."""
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the body."""
    delivery: Mapped[str] = mapped_column(Uuid, unique=True)
    """Ours, of its last delivery."""
    position: Mapped[int | None] = mapped_column(BigInteger)
    """Its offset in a stream."""
    item_id: Mapped[int | None] = mapped_column(ForeignKey("work_items.id", ondelete="SET NULL"), index=True)
    """What it became; None if it was refused."""
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    delivered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it last came: later than `received_at` if it came again."""
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the broker was told that it need not deliver it again."""


class OwedMessage(Base):
    """A message that somebody outside must get: written with what causes it, sent until it was taken."""

    __tablename__ = "owed_messages"
    __table_args__ = (
        Index("ix_owed_messages_sent_at", "sent_at"),
        Index("ix_owed_messages_item", "item_id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    key: Mapped[str] = mapped_column(String(255), unique=True)
    """What makes two of them the same: owed twice, it is sent once."""
    destination: Mapped[str] = mapped_column(String(128))
    """Who sends it where, e.g. `door:medusa`."""
    body: Mapped[str] = mapped_column(Text)
    item_id: Mapped[int | None] = mapped_column(RowId)
    """The item whose end or progress it tells of."""
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str] = mapped_column(Text, default="")
