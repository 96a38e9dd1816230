"""The registry's records as rows: what the nodes of the network tell each other (DPN REST API v2, records).

Times are the record's own (`created_at`, `updated_at` as on the wire); nothing here stamps them by itself,
because a record copied from a peer keeps the peer's stamps.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Namespace, RowId, UtcDateTime, Uuid


class Node(Base):
    """A member of the network. `api_root` comes from our settings for peers, never from a synced record."""

    __tablename__ = "nodes"

    namespace: Mapped[str] = mapped_column(Namespace, primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    api_root: Mapped[str] = mapped_column(String(1024))
    ssh_pubkey: Mapped[str | None] = mapped_column(Text)
    storage_region: Mapped[str] = mapped_column(String(255), default="default")
    storage_type: Mapped[str] = mapped_column(String(255), default="default")
    replicate_from: Mapped[list[str]] = mapped_column(JSON, default=list)
    replicate_to: Mapped[list[str]] = mapped_column(JSON, default=list)
    restore_from: Mapped[list[str]] = mapped_column(JSON, default=list)
    restore_to: Mapped[list[str]] = mapped_column(JSON, default=list)
    protocols: Mapped[list[str]] = mapped_column(JSON, default=list)
    fixity_algorithms: Mapped[list[str]] = mapped_column(JSON, default=list)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ApiToken(Base):
    """A token we issued; only its salted hash is kept. Several may be valid: tokens are rotated."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    owner: Mapped[str] = mapped_column(Namespace, index=True)
    """A node's namespace, or whom else it was issued to."""
    scopes: Mapped[str] = mapped_column(String(255), server_default="node")
    """What it is for, parted by spaces."""
    lookup: Mapped[str | None] = mapped_column(String(16), index=True)
    """By what the token is found: its id part; without one, a prefix of its hash, None until it is used."""
    salt: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(255), server_default="")
    """What an operator calls it."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """From when on it is refused; None if its age does not end it."""
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """To within minutes: not every use is noted."""
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Member(Base):
    """An institution whose content the network keeps. Peers may know two of the same name: nothing forbids it."""

    __tablename__ = "members"
    __table_args__ = (Index("ix_members_updated_at", "updated_at", "member_id"),)

    member_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    email: Mapped[str] = mapped_column(String(255), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MemberSource(Base):
    """The peer that told us of a member, and so may change it; none for members of our own. The empty name is in
    place of one that it was taken from: then the next peer that shows it may."""

    __tablename__ = "member_sources"

    member_id: Mapped[str] = mapped_column(ForeignKey("members.member_id", ondelete="CASCADE"), primary_key=True)
    peer: Mapped[str] = mapped_column(Namespace)


class Bag(Base):
    """A bag known to the network. `size` is the bytes of its tar, as its ingest node says.

    `member` has no foreign key: peers' bags may reach us before the record of their member does. A version is
    unique in its family only for one admin node: no peer may take the place of another's bag.
    """

    __tablename__ = "bags"
    __table_args__ = (
        UniqueConstraint("first_version_uuid", "version", "admin_node"),
        CheckConstraint("size >= 1", name="size_positive"),
        CheckConstraint("version >= 1", name="version_positive"),
        CheckConstraint("bag_type IN ('D', 'I', 'R')", name="bag_type"),
        # Lists count and page in an index alone: behind what orders each lies what else lists are filtered by.
        Index(
            "ix_bags_admin_node_updated_at", "admin_node", "updated_at", "uuid", "bag_type", "ingest_node", "size"
        ),
        Index(
            "ix_bags_admin_node_bag_type", "admin_node", "bag_type", "updated_at", "uuid", "ingest_node", "size"
        ),
        Index(
            "ix_bags_ingest_node_updated_at", "ingest_node", "updated_at", "uuid", "bag_type", "admin_node", "size"
        ),
        Index("ix_bags_member_updated_at", "member", "updated_at", "uuid", "admin_node", "bag_type", "size"),
        Index("ix_bags_updated_at", "updated_at", "uuid", "bag_type", "admin_node", "ingest_node", "size"),
        Index("ix_bags_created_at", "created_at", "uuid", "bag_type", "admin_node", "ingest_node", "size"),
    )

    uuid: Mapped[str] = mapped_column(Uuid, primary_key=True)
    local_id: Mapped[str] = mapped_column(String(1024), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    first_version_uuid: Mapped[str] = mapped_column(Uuid)
    version: Mapped[int] = mapped_column(Integer)
    bag_type: Mapped[str] = mapped_column(String(1))
    interpretive: Mapped[list[str]] = mapped_column(JSON, default=list)
    rights: Mapped[list[str]] = mapped_column(JSON, default=list)
    ingest_node: Mapped[str] = mapped_column(Namespace)
    admin_node: Mapped[str] = mapped_column(Namespace)
    member: Mapped[str] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    replicas: Mapped[list[BagReplica]] = relationship(
        cascade="all, delete-orphan", lazy="selectin", order_by="BagReplica.node"
    )

    @property
    def replicating_nodes(self) -> list[str]:
        return [replica.node for replica in self.replicas]


class BagReplica(Base):
    """One entry of a bag's `replicating_nodes`: a node that holds a copy."""

    __tablename__ = "bag_replicas"
    __table_args__ = (Index("ix_bag_replicas_node_bag", "node", "bag"),)

    bag: Mapped[str] = mapped_column(ForeignKey("bags.uuid", ondelete="CASCADE"), primary_key=True)
    node: Mapped[str] = mapped_column(Namespace, primary_key=True)


class MessageDigest(Base):
    """A bag's fixity: the digest of its `tagmanifest-<algorithm>.txt`. Unique by bag and algorithm."""

    __tablename__ = "message_digests"
    __table_args__ = (
        Index("ix_message_digests_created_at", "created_at", "bag", "algorithm", "node"),
        Index("ix_message_digests_node_created_at", "node", "created_at", "bag", "algorithm"),
    )

    bag: Mapped[str] = mapped_column(ForeignKey("bags.uuid", ondelete="CASCADE"), primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(32), primary_key=True)
    node: Mapped[str] = mapped_column(Namespace)
    value: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FixityCheck(Base):
    """One check of one node's copy of a bag; never changed."""

    __tablename__ = "fixity_checks"
    __table_args__ = (
        Index("ix_fixity_checks_bag_node_created_at", "bag", "node", "created_at", "fixity_check_id", "success"),
        Index("ix_fixity_checks_node_created_at", "node", "created_at", "fixity_check_id", "success"),
        Index("ix_fixity_checks_created_at", "created_at", "fixity_check_id", "node", "success"),
    )

    fixity_check_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    bag: Mapped[str] = mapped_column(ForeignKey("bags.uuid", ondelete="CASCADE"))
    node: Mapped[str] = mapped_column(Namespace)
    success: Mapped[bool] = mapped_column(Boolean)
    fixity_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Ingest(Base):
    """A bag reached its number of copies (`ingested`) or lost it; never changed."""

    __tablename__ = "ingests"
    __table_args__ = (
        Index("ix_ingests_bag_created_at", "bag", "created_at", "ingest_id", "ingested"),
        Index("ix_ingests_created_at", "created_at", "ingest_id", "ingested"),
    )

    ingest_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    bag: Mapped[str] = mapped_column(ForeignKey("bags.uuid", ondelete="CASCADE"))
    ingested: Mapped[bool] = mapped_column(Boolean)
    replicating_nodes: Mapped[list[str]] = mapped_column(JSON, default=list)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReplicationTransfer(Base):
    """A bag that `from_node` (its owner) asks `to_node` to copy and keep. Flags only ever go up."""

    __tablename__ = "replication_transfers"
    __table_args__ = (
        Index(
            "ix_replication_transfers_from_node_updated_at",
            *("from_node", "updated_at", "replication_id", "to_node", "store_requested", "stored", "cancelled"),
        ),
        Index(
            "ix_replication_transfers_to_node_updated_at",
            *("to_node", "updated_at", "replication_id", "from_node", "store_requested", "stored", "cancelled"),
        ),
        Index(
            "ix_replication_transfers_to_node_open",
            *("to_node", "stored", "cancelled", "store_requested", "updated_at", "replication_id", "from_node"),
        ),
        Index(
            "ix_replication_transfers_updated_at",
            *("updated_at", "replication_id", "from_node", "to_node", "store_requested", "stored", "cancelled"),
        ),
        Index(
            "ix_replication_transfers_created_at",
            *("created_at", "replication_id", "from_node", "to_node", "store_requested", "stored", "cancelled"),
        ),
    )

    replication_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    from_node: Mapped[str] = mapped_column(Namespace)
    to_node: Mapped[str] = mapped_column(Namespace)
    bag: Mapped[str] = mapped_column(ForeignKey("bags.uuid"), index=True)
    fixity_algorithm: Mapped[str] = mapped_column(String(32))
    fixity_nonce: Mapped[str | None] = mapped_column(String(255))
    fixity_value: Mapped[str | None] = mapped_column(String(255))
    protocol: Mapped[str] = mapped_column(String(32))
    link: Mapped[str] = mapped_column(Text)
    store_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    stored: Mapped[bool] = mapped_column(Boolean, default=False)
    cancelled: Mapped[bool] = mapped_column(Boolean, default=False)
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    cancel_reason_detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RestoreTransfer(Base):
    """A bag that `to_node` (the requester) wants back from `from_node`'s copy."""

    __tablename__ = "restore_transfers"
    __table_args__ = (
        Index(
            "ix_restore_transfers_to_node_updated_at",
            *("to_node", "updated_at", "restore_id", "from_node", "accepted", "finished", "cancelled"),
        ),
        Index(
            "ix_restore_transfers_from_node_updated_at",
            *("from_node", "updated_at", "restore_id", "to_node", "accepted", "finished", "cancelled"),
        ),
        Index(
            "ix_restore_transfers_updated_at",
            *("updated_at", "restore_id", "from_node", "to_node", "accepted", "finished", "cancelled"),
        ),
        Index(
            "ix_restore_transfers_created_at",
            *("created_at", "restore_id", "from_node", "to_node", "accepted", "finished", "cancelled"),
        ),
        # Few are open at a time: who counts those, or works on them, does not read the rest.
        Index(
            "ix_restore_transfers_open",
            *("from_node", "to_node", "finished", "cancelled", "created_at", "restore_id"),
        ),
    )

    restore_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    from_node: Mapped[str] = mapped_column(Namespace)
    to_node: Mapped[str] = mapped_column(Namespace)
    bag: Mapped[str] = mapped_column(ForeignKey("bags.uuid"), index=True)
    protocol: Mapped[str] = mapped_column(String(32))
    link: Mapped[str | None] = mapped_column(Text)
    accepted: Mapped[bool] = mapped_column(Boolean, default=False)
    finished: Mapped[bool] = mapped_column(Boolean, default=False)
    cancelled: Mapped[bool] = mapped_column(Boolean, default=False)
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    cancel_reason_detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SyncMark(Base):
    """How far we have read one kind of record from one peer, by the peer's own stamps."""

    __tablename__ = "sync_marks"

    peer: Mapped[str] = mapped_column(Namespace, primary_key=True)
    record_type: Mapped[str] = mapped_column(String(64), primary_key=True)
    high_water: Mapped[datetime | None] = mapped_column(UtcDateTime)
    list_state: Mapped[str | None] = mapped_column(String(255))
    succeeded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ListState(Base):
    """Changes with every commit that changes records of a kind, to a value that was never there before.

    What was counted or read of such records holds as long as this is the same.
    """

    __tablename__ = "list_states"

    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(64))


class ListTotal(Base):
    """A number of records, and their bytes, that share the columns lists are filtered by: the rows of one kind and
    `facets` together tell how many there are. Each commit adds rows of what it changed, negative where records
    left; now and then they are added up (see `dpn.registry.catalogue.totals`)."""

    __tablename__ = "list_totals"
    __table_args__ = (Index("ix_list_totals_kind", "kind", "facets", "records", "bytes"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    facets: Mapped[str] = mapped_column(Text)
    """The columns' values as JSON, in the order of the kind's facets."""
    records: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[str] = mapped_column(String(64))
    """In digits: a peer may claim sizes whose sum no integer column holds."""


class DisownedRecord(Base):
    """A record of which an operator has decided that it is not this peer's: its word on it counts for nothing."""

    __tablename__ = "disowned_records"

    peer: Mapped[str] = mapped_column(Namespace, primary_key=True)
    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    record_key: Mapped[str] = mapped_column(String(128), primary_key=True)
    """Its key, parts joined by `/`."""

    reason: Mapped[str] = mapped_column(Text)
    disowned_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SetAsideRecord(Base):
    """A record of a peer's that could not be taken over, with the reason; tried again with every sync."""

    __tablename__ = "set_aside_records"
    __table_args__ = (Index("ix_set_aside_records_last_seen_at", "last_seen_at"),)

    peer: Mapped[str] = mapped_column(Namespace, primary_key=True)
    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    record_key: Mapped[str] = mapped_column(String(128), primary_key=True)
    """Its key, parts joined by `/`; for a row that has none, `sha256:` and the digest of its text."""

    status: Mapped[int] = mapped_column(Integer)
    """As in `RefusedRecord`; 422 for a row that is no record."""

    reason: Mapped[str] = mapped_column(Text)
    record: Mapped[dict[str, object] | None] = mapped_column(JSON)
    """As it is on the wire; none for a row that is no record."""

    excerpt: Mapped[str | None] = mapped_column(Text)
    """How such a row began."""

    first_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
