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
        sa.CheckConstraint("outcome IN ('unchecked', 'good', 'bad')", name=op.f("ck_stored_copies_outcome")),
        sa.PrimaryKeyConstraint("bag", name=op.f("pk_stored_copies")),
    )
    with op.batch_alter_table("stored_copies", schema=None) as batch_op:
        batch_op.create_index("ix_stored_copies_due_at", ["due_at", "bag"], unique=False)
        batch_op.create_index("ix_stored_copies_outcome", ["outcome", "bag"], unique=False)
