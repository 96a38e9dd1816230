"""An index of the restore requests that are open"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("restore_transfers", schema=None) as batch_op:
        batch_op.create_index(
            "ix_restore_transfers_open",
            ["from_node", "to_node", "finished", "cancelled", "created_at", "restore_id"],
            unique=False,
        )
