"""Indexes that hold some of a table's rows: what waits, of what there may be very much that does not.

Apart from the tables that they are of, and declared only where the schema is compared: to take in what holds on
each database, SQLAlchemy loads both dialects, two megabytes of every process.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Index, text

from models.messages import OwedMessage, ReceivedMessage
from models.work import WorkItem


@cache
def declare() -> None:
    """Adds them to the tables, once."""
    asked = text("requester <> ''")
    Index(
        "ix_work_items_turns",
        WorkItem.task,
        WorkItem.stage,
        WorkItem.status,
        WorkItem.requester,
        WorkItem.priority,
        WorkItem.run_after,
        WorkItem.id,
        sqlite_where=asked,
        postgresql_where=asked,
    )
    named = text("message_id IS NOT NULL")
    Index(
        "ix_received_messages_id",
        ReceivedMessage.door,
        ReceivedMessage.message_id,
        unique=True,
        sqlite_where=named,
        postgresql_where=named,
    )
    unsent = text("sent_at IS NULL")
    Index(
        "ix_owed_messages_unsent",
        OwedMessage.destination,
        OwedMessage.next_try_at,
        OwedMessage.id,
        sqlite_where=unsent,
        postgresql_where=unsent,
    )
