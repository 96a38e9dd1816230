"""Whose a token is, what it may be used for, and by what it is found; those issued before are the nodes' own"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_api_tokens_namespace", "api_tokens")
    op.execute("ALTER TABLE api_tokens RENAME COLUMN namespace TO owner")
    op.create_index("ix_api_tokens_owner", "api_tokens", ["owner"])
    op.add_column("api_tokens", sa.Column("scopes", sa.String(255), server_default="node", nullable=False))
    op.add_column("api_tokens", sa.Column("lookup", sa.String(16), nullable=True))
    op.create_index("ix_api_tokens_lookup", "api_tokens", ["lookup"])
