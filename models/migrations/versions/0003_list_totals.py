"""How much each list holds, kept with every change"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


NAMES = {
    "bag": ("bags", ("bag_type", "admin_node", "ingest_node")),
    "digest": ("message_digests", ("node",)),
    "ingest": ("ingests", ("ingested",)),
    "fixity_check": ("fixity_checks", ("node", "success")),
    "replicate": ("replication_transfers", ("from_node", "to_node", "store_requested", "stored", "cancelled")),
    "restore": ("restore_transfers", ("from_node", "to_node", "accepted", "finished", "cancelled")),
}
"""By kind: its table, and its facets as they were when this table was made."""

HALF = 2**32

FLAGS = {"ingested", "success", "store_requested", "stored", "cancelled", "accepted", "finished"}


def upgrade() -> None:
    op.create_table(
        "list_totals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("facets", sa.Text(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_list_totals")),
    )
    with op.batch_alter_table("list_totals", schema=None) as batch_op:
        batch_op.create_index("ix_list_totals_kind", ["kind", "facets", "records", "bytes"], unique=False)
    for kind, (table, facets) in NAMES.items():
        _count(kind, table, facets)


def _count(kind: str, table: str, facets: tuple[str, ...]) -> None:
    """Enters what the registry holds now. Sizes are added up in two halves: their sum may be more than 64 bits."""
    columns = [sa.column(name, sa.Boolean() if name in FLAGS else sa.String()) for name in facets]
    size = sa.column("size", sa.BigInteger()) if kind == "bag" else sa.literal(0, sa.BigInteger())
    halves = [sa.func.sum(size // HALF), sa.func.sum(size % HALF)]
    counted = sa.select(*columns, sa.func.count(), *halves).select_from(sa.table(table)).group_by(*columns)
    rows = [
        {
            "kind": kind,
            "facets": json.dumps(values, separators=(",", ":"), ensure_ascii=False),
            "records": records,
            "bytes": str(int(high) * HALF + int(low)),
        }
        for *values, records, high, low in op.get_bind().execute(counted)
    ]
    totals = sa.table("list_totals", *(sa.column(name) for name in ("kind", "facets", "records", "bytes")))
    if rows:
        op.get_bind().execute(sa.insert(totals), rows)
