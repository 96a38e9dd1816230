"""Who asked for an item, and how urgent it is among what that one asked for"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("work_items", sa.Column("requester", sa.String(255), server_default="", nullable=False))
    op.add_column("work_items", sa.Column("priority", sa.SmallInteger(), server_default="3", nullable=False))
    asked = sa.text("requester <> ''")
    op.create_index(
        "ix_work_items_turns",
        "work_items",
        ["task", "stage", "status", "requester", "priority", "run_after", "id"],
        sqlite_where=asked,
        postgresql_where=asked,
    )
