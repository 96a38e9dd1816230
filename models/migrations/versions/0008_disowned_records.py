"""What operators have decided that a peer's word counts for nothing"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "disowned_records",
        sa.Column("peer", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("record_key", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("disowned_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "kind", "record_key", name=op.f("pk_disowned_records")),
    )
