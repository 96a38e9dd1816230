"""Restore drills: which bags were brought back to see that they can be, and what came of it; the bags that a node
holds, in the order of their ids, for drawing some of them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import models.base

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drilled_bags",
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("drill_id", sa.String(length=36), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("begun_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("reported_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_drilled_bags")),
    )
    with op.batch_alter_table("drilled_bags", schema=None) as batch_op:
        batch_op.create_index("ix_drilled_bags_reported_at", ["reported_at", "drill_id"], unique=False)
    with op.batch_alter_table("bag_replicas", schema=None) as batch_op:
        batch_op.drop_index(op.f("ix_bag_replicas_node"))
        batch_op.create_index("ix_bag_replicas_node_bag", ["node", "bag"], unique=False)
