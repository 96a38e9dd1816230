"""Messages that came from outside, and those that are owed there"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "received_messages",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("door", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("delivery", sa.String(length=36), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("item_id", ROW_ID, nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("delivered_at", UtcDateTime(), nullable=False),
        sa.Column("settled_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["work_items.id"],
            name=op.f("fk_received_messages_item_id_work_items"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_messages")),
        sa.UniqueConstraint("delivery", name=op.f("uq_received_messages_delivery")),
    )
    known = sa.text("message_id IS NOT NULL")
    op.create_index(
        "ix_received_messages_id",
        "received_messages",
        ["door", "message_id"],
        unique=True,
        sqlite_where=known,
        postgresql_where=known,
    )
    op.create_index("ix_received_messages_digest", "received_messages", ["door", "digest", "settled_at"])
    op.create_index("ix_received_messages_received_at", "received_messages", ["received_at"])
    op.create_index(op.f("ix_received_messages_item_id"), "received_messages", ["item_id"])
    op.create_table(
        "owed_messages",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("destination", sa.String(length=128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("item_id", ROW_ID, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owed_messages")),
        sa.UniqueConstraint("key", name=op.f("uq_owed_messages_key")),
    )
    unsent = sa.text("sent_at IS NULL")
    op.create_index(
        "ix_owed_messages_unsent",
        "owed_messages",
        ["destination", "next_try_at", "id"],
        sqlite_where=unsent,
        postgresql_where=unsent,
    )
    op.create_index("ix_owed_messages_sent_at", "owed_messages", ["sent_at"])
    op.create_index("ix_owed_messages_item", "owed_messages", ["item_id"])
