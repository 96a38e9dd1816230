"""The first schema: registry, work items, audit trail"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import models.base

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("salt", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
    )
    with op.batch_alter_table("api_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_tokens_namespace"), ["namespace"], unique=False)

    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("occurred_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("object_id", sa.String(length=255), nullable=False),
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("agent", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index("ix_audit_events_item", ["item_id", "id"], unique=False)
        batch_op.create_index("ix_audit_events_object", ["object_id", "id"], unique=False)

    op.create_table(
        "bags",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("local_id", sa.String(length=1024), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("first_version_uuid", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bag_type", sa.String(length=1), nullable=False),
        sa.Column("interpretive", sa.JSON(), nullable=False),
        sa.Column("rights", sa.JSON(), nullable=False),
        sa.Column("ingest_node", sa.String(length=64), nullable=False),
        sa.Column("admin_node", sa.String(length=64), nullable=False),
        sa.Column("member", sa.String(length=36), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.CheckConstraint("bag_type IN ('D', 'I', 'R')", name=op.f("ck_bags_bag_type")),
        sa.CheckConstraint("size >= 1", name=op.f("ck_bags_size_positive")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_bags_version_positive")),
        sa.PrimaryKeyConstraint("uuid", name=op.f("pk_bags")),
        sa.UniqueConstraint(
            "first_version_uuid",
            "version",
            "admin_node",
            name=op.f("uq_bags_first_version_uuid_version_admin_node"),
        ),
    )
    with op.batch_alter_table("bags", schema=None) as batch_op:
        batch_op.create_index(
            "ix_bags_admin_node_bag_type",
            ["admin_node", "bag_type", "updated_at", "uuid", "ingest_node", "size"],
            unique=False,
        )
        batch_op.create_index(
            "ix_bags_admin_node_updated_at",
            ["admin_node", "updated_at", "uuid", "bag_type", "ingest_node", "size"],
            unique=False,
        )
        batch_op.create_index(
            "ix_bags_created_at",
            ["created_at", "uuid", "bag_type", "admin_node", "ingest_node", "size"],
            unique=False,
        )
        batch_op.create_index(
            "ix_bags_ingest_node_updated_at",
            ["ingest_node", "updated_at", "uuid", "bag_type", "admin_node", "size"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_bags_local_id"), ["local_id"], unique=False)
        batch_op.create_index(
            "ix_bags_member_updated_at",
            ["member", "updated_at", "uuid", "admin_node", "bag_type", "size"],
            unique=False,
        )
        batch_op.create_index(
            "ix_bags_updated_at",
            ["updated_at", "uuid", "bag_type", "admin_node", "ingest_node", "size"],
            unique=False,
        )

    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("body", sa.String(length=1024), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("received_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "members",
        sa.Column("member_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_members")),
    )
    with op.batch_alter_table("members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_members_email"), ["email"], unique=False)
        batch_op.create_index(batch_op.f("ix_members_name"), ["name"], unique=False)
        batch_op.create_index("ix_members_updated_at", ["updated_at", "member_id"], unique=False)

    op.create_table(
        "member_sources",
        sa.Column("member_id", sa.String(length=36), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.member_id"], name=op.f("fk_member_sources_member_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_member_sources")),
    )
    op.create_table(
        "list_states",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_list_states")),
    )
    op.create_table(
        "set_aside_records",
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("record_key", sa.String(length=128), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=True),
        sa.Column("excerpt", sa.Text(), nullable=True),
        sa.Column("first_seen_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("peer", "kind", "record_key", name=op.f("pk_set_aside_records")),
    )
    with op.batch_alter_table("set_aside_records", schema=None) as batch_op:
        batch_op.create_index("ix_set_aside_records_last_seen_at", ["last_seen_at"], unique=False)

    op.create_table(
        "nodes",
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("api_root", sa.String(length=1024), nullable=False),
        sa.Column("ssh_pubkey", sa.Text(), nullable=True),
        sa.Column("storage_region", sa.String(length=255), nullable=False),
        sa.Column("storage_type", sa.String(length=255), nullable=False),
        sa.Column("replicate_from", sa.JSON(), nullable=False),
        sa.Column("replicate_to", sa.JSON(), nullable=False),
        sa.Column("restore_from", sa.JSON(), nullable=False),
        sa.Column("restore_to", sa.JSON(), nullable=False),
        sa.Column("protocols", sa.JSON(), nullable=False),
        sa.Column("fixity_algorithms", sa.JSON(), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("namespace", name=op.f("pk_nodes")),
    )
    op.create_table(
        "service_health",
        sa.Column("service", sa.String(length=128), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("failed_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_service_health")),
    )
    op.create_table(
        "staging_volumes",
        sa.Column("name", sa.String(length=36), nullable=False),
        sa.Column("reservations_made", sa.Integer(), nullable=False),
        sa.Column("seen_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_staging_volumes")),
    )
    op.create_table(
        "sync_marks",
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("high_water", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("list_state", sa.String(length=255), nullable=True),
        sa.Column("succeeded_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("peer", "record_type", name=op.f("pk_sync_marks")),
    )
    op.create_table(
        "work_items",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task", sa.String(length=32), nullable=False),
        sa.Column("identifier", sa.String(length=255), nullable=False),
        sa.Column("remote_node", sa.String(length=64), nullable=True),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("waiting_since", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("staging_volume", sa.String(length=36), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("needs_attention", sa.Boolean(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("completed_at", models.base.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'success', 'failed', 'cancelled')", name=op.f("ck_work_items_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_items")),
        sa.UniqueConstraint("task", "identifier", name=op.f("uq_work_items_task_identifier")),
    )
    with op.batch_alter_table("work_items", schema=None) as batch_op:
        batch_op.create_index("ix_work_items_attention", ["needs_attention", "id"], unique=False)
        batch_op.create_index("ix_work_items_due", ["status", "task", "stage", "run_after", "id"], unique=False)
        batch_op.create_index("ix_work_items_expired", ["status", "lease_expires_at"], unique=False)
        batch_op.create_index("ix_work_items_staging_volume", ["staging_volume", "status"], unique=False)

    op.create_table(
        "worker_heartbeats",
        sa.Column("worker_id", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("stages", sa.JSON(), nullable=False),
        sa.Column("volumes", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("started_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("seen_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_worker_heartbeats")),
    )
    with op.batch_alter_table("worker_heartbeats", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_worker_heartbeats_seen_at"), ["seen_at"], unique=False)

    op.create_table(
        "bag_replicas",
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["bag"], ["bags.uuid"], name=op.f("fk_bag_replicas_bag"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("bag", "node", name=op.f("pk_bag_replicas")),
    )
    with op.batch_alter_table("bag_replicas", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bag_replicas_node"), ["node"], unique=False)

    op.create_table(
        "disk_reservations",
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("volume", sa.String(length=36), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_disk_reservations_bytes_positive")),
        sa.ForeignKeyConstraint(
            ["item_id"], ["work_items.id"], name=op.f("fk_disk_reservations_item_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["volume"], ["staging_volumes.name"], name=op.f("fk_disk_reservations_volume")),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_disk_reservations")),
    )
    with op.batch_alter_table("disk_reservations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_disk_reservations_volume"), ["volume"], unique=False)

    op.create_table(
        "deposits",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("member", sa.String(length=36), nullable=False),
        sa.Column("local_id", sa.String(length=1024), nullable=False),
        sa.Column("first_version_uuid", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("submitted_by", sa.String(length=255), nullable=False),
        sa.Column("submitted_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["work_items.id"], name=op.f("fk_deposits_item_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_deposits")),
        sa.UniqueConstraint("bag", name=op.f("uq_deposits_bag")),
        sa.UniqueConstraint("first_version_uuid", "version", name=op.f("uq_deposits_first_version_uuid_version")),
    )
    with op.batch_alter_table("deposits", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deposits_item_id"), ["item_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deposits_local_id"), ["local_id"], unique=False)

    op.create_table(
        "dispatch_intents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["work_items.id"], name=op.f("fk_dispatch_intents_item_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatch_intents")),
    )
    with op.batch_alter_table("dispatch_intents", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dispatch_intents_item_id"), ["item_id"], unique=False)

    op.create_table(
        "fixity_checks",
        sa.Column("fixity_check_id", sa.String(length=36), nullable=False),
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("fixity_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bag"], ["bags.uuid"], name=op.f("fk_fixity_checks_bag"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("fixity_check_id", name=op.f("pk_fixity_checks")),
    )
    with op.batch_alter_table("fixity_checks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_fixity_checks_bag_node_created_at",
            ["bag", "node", "created_at", "fixity_check_id", "success"],
            unique=False,
        )
        batch_op.create_index(
            "ix_fixity_checks_created_at", ["created_at", "fixity_check_id", "node", "success"], unique=False
        )
        batch_op.create_index(
            "ix_fixity_checks_node_created_at", ["node", "created_at", "fixity_check_id", "success"], unique=False
        )

    op.create_table(
        "ingests",
        sa.Column("ingest_id", sa.String(length=36), nullable=False),
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("ingested", sa.Boolean(), nullable=False),
        sa.Column("replicating_nodes", sa.JSON(), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bag"], ["bags.uuid"], name=op.f("fk_ingests_bag"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("ingest_id", name=op.f("pk_ingests")),
    )
    with op.batch_alter_table("ingests", schema=None) as batch_op:
        batch_op.create_index(
            "ix_ingests_bag_created_at", ["bag", "created_at", "ingest_id", "ingested"], unique=False
        )
        batch_op.create_index("ix_ingests_created_at", ["created_at", "ingest_id", "ingested"], unique=False)

    op.create_table(
        "message_digests",
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("algorithm", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bag"], ["bags.uuid"], name=op.f("fk_message_digests_bag"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("bag", "algorithm", name=op.f("pk_message_digests")),
    )
    with op.batch_alter_table("message_digests", schema=None) as batch_op:
        batch_op.create_index(
            "ix_message_digests_created_at", ["created_at", "bag", "algorithm", "node"], unique=False
        )
        batch_op.create_index(
            "ix_message_digests_node_created_at", ["node", "created_at", "bag", "algorithm"], unique=False
        )

    op.create_table(
        "replication_transfers",
        sa.Column("replication_id", sa.String(length=36), nullable=False),
        sa.Column("from_node", sa.String(length=64), nullable=False),
        sa.Column("to_node", sa.String(length=64), nullable=False),
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("fixity_algorithm", sa.String(length=32), nullable=False),
        sa.Column("fixity_nonce", sa.String(length=255), nullable=True),
        sa.Column("fixity_value", sa.String(length=255), nullable=True),
        sa.Column("protocol", sa.String(length=32), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("store_requested", sa.Boolean(), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("cancel_reason_detail", sa.Text(), nullable=True),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bag"], ["bags.uuid"], name=op.f("fk_replication_transfers_bag")),
        sa.PrimaryKeyConstraint("replication_id", name=op.f("pk_replication_transfers")),
    )
    with op.batch_alter_table("replication_transfers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_replication_transfers_bag"), ["bag"], unique=False)
        batch_op.create_index(
            "ix_replication_transfers_created_at",
            ["created_at", "replication_id", "from_node", "to_node", "store_requested", "stored", "cancelled"],
            unique=False,
        )
        batch_op.create_index(
            "ix_replication_transfers_from_node_updated_at",
            ["from_node", "updated_at", "replication_id", "to_node", "store_requested", "stored", "cancelled"],
            unique=False,
        )
        batch_op.create_index(
            "ix_replication_transfers_to_node_open",
            ["to_node", "stored", "cancelled", "store_requested", "updated_at", "replication_id", "from_node"],
            unique=False,
        )
        batch_op.create_index(
            "ix_replication_transfers_to_node_updated_at",
            ["to_node", "updated_at", "replication_id", "from_node", "store_requested", "stored", "cancelled"],
            unique=False,
        )
        batch_op.create_index(
            "ix_replication_transfers_updated_at",
            ["updated_at", "replication_id", "from_node", "to_node", "store_requested", "stored", "cancelled"],
            unique=False,
        )

    op.create_table(
        "restore_transfers",
        sa.Column("restore_id", sa.String(length=36), nullable=False),
        sa.Column("from_node", sa.String(length=64), nullable=False),
        sa.Column("to_node", sa.String(length=64), nullable=False),
        sa.Column("bag", sa.String(length=36), nullable=False),
        sa.Column("protocol", sa.String(length=32), nullable=False),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("cancel_reason_detail", sa.Text(), nullable=True),
        sa.Column("created_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bag"], ["bags.uuid"], name=op.f("fk_restore_transfers_bag")),
        sa.PrimaryKeyConstraint("restore_id", name=op.f("pk_restore_transfers")),
    )
    with op.batch_alter_table("restore_transfers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_restore_transfers_bag"), ["bag"], unique=False)
        batch_op.create_index(
            "ix_restore_transfers_created_at",
            ["created_at", "restore_id", "from_node", "to_node", "accepted", "finished", "cancelled"],
            unique=False,
        )
        batch_op.create_index(
            "ix_restore_transfers_from_node_updated_at",
            ["from_node", "updated_at", "restore_id", "to_node", "accepted", "finished", "cancelled"],
            unique=False,
        )
        batch_op.create_index(
            "ix_restore_transfers_to_node_updated_at",
            ["to_node", "updated_at", "restore_id", "from_node", "accepted", "finished", "cancelled"],
            unique=False,
        )
        batch_op.create_index(
            "ix_restore_transfers_updated_at",
            ["updated_at", "restore_id", "from_node", "to_node", "accepted", "finished", "cancelled"],
            unique=False,
        )
