"""The copies that this node keeps, for fixity checks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import models.base

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stored_copies",
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("tag_manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("stored_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("checked_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("due_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("begun_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("check_item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint("outcome IN ('unchecked', 'good', 'bad')", name=op.f("ck_stored_copies_outcome")),
        sa.PrimaryKeyConstraint("bag", name=op.f("pk_stored_copies")),
    )
    with op.batch_alter_table("stored_copies", schema=None) as batch_op:
        batch_op.create_index("ix_stored_copies_due_at", ["due_at", "bag", "size"], unique=False)
        batch_op.create_index(
            "ix_stored_copies_bag", ["bag", "outcome", "checked_at", "due_at", "size"], unique=False
        )
    op.create_table(
        "fixity_pace",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("credit", sa.Float(), nullable=False),
        sa.Column("paced_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("items_taken_in", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fixity_pace")),
    )
    op.create_table(
        "fixity_hours",
        sa.Column("hour", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_fixity_hours")),
    )
