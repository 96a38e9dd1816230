"""How each kind of record lies in the database: its table, what may be asked of it, record to columns and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, RowMapping, Table, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from dpn.registry.records import (
    BagRecord,
    DigestRecord,
    FixityCheckRecord,
    IngestRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    RestoreRecord,
    StorageRecord,
)
from models import registry as rows
from models.base import Base, DamagedJson

R = TypeVar("R", bound=Record)

SHOWN_TO = "shown_to"
"""The filter that leaves out what tells the digest of a bag of ours to a node that has not sent its own: its value
is our name and that of the node. Kinds without it tell none."""

Condition = Callable[[Any], ColumnElement[bool]]


@dataclass(frozen=True)
class Kind(Generic[R]):
    """One kind of record. `columns` writes a record as a row, `values` reads its fields back."""

    name: str
    record: type[R]
    table: Table
    filters: tuple[str, ...] = ()
    """Columns that lists may be filtered by, each equal to a value."""
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """Filters that are more than that."""
    facets: tuple[str, ...] | None = None
    """Of `filters`, the columns with few values: the number of records with each is kept (see `totals`)."""
    owner: str | None = None
    """The field that names the node whose record it is; None where that is known in another way."""
    one_of_each: tuple[str, ...] = ()
    """The columns for each of whose values the latest record may be asked for; None where all records are."""
    columns: Callable[[R], dict[str, Any]] = lambda record: _plain(vars(record))
    values: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: _frozen(row)

    @property
    def key(self) -> list[ColumnElement[Any]]:
        return [self.table.c[name] for name in self.record.KEY]

    @property
    def stamp(self) -> ColumnElement[Any]:
        return self.table.c[self.record.STAMP]

    @property
    def owners(self) -> ColumnElement[str]:
        """Raises KeyError for a kind whose records do not name their owner."""
        return cast("ColumnElement[str]", self.table.c[self.owner or ""])

    def owner_of(self, record: R) -> str | None:
        """The node whose record it is, None where the record does not say."""
        return None if self.owner is None else str(getattr(record, self.owner))

    def condition(self, name: str, value: Any) -> ColumnElement[bool]:
        """The SQL for a filter of this kind. Raises KeyError for a filter that it does not have."""
        if name in self.conditions:
            return self.conditions[name](value)
        if name not in self.filters:
            raise KeyError(f"{self.name} has no filter {name}")
        return cast("ColumnElement[bool]", self.table.c[name] == value)

    def read(self, row: RowMapping, **more: Any) -> R:
        """The record in a row: trusted, it was checked when it came in."""
        columns: dict[Any, Any] = dict(row)
        return self.record.trusted(self.values(columns) | more)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Tuples as the lists that JSON columns hold."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
        elif isinstance(value, DamagedJson):
            raise ValueError("a row of the registry is damaged: restore it from a peer or a backup")
    return fields


def _table(row: type[Base]) -> Table:
    return cast("Table", row.__table__)


def _node_columns(node: NodeRecord) -> dict[str, Any]:
    fields = _plain(vars(node))
    storage: StorageRecord = fields.pop("storage")
    return fields | {"storage_region": storage.region, "storage_type": storage.type}


def _node_values(row: dict[str, Any]) -> dict[str, Any]:
    fields = _frozen(row)
    region, kind = fields.pop("storage_region"), fields.pop("storage_type")
    return fields | {"storage": StorageRecord.model_construct(region=region, type=kind)}


def _bag_columns(bag: BagRecord) -> dict[str, Any]:
    fields = _plain(vars(bag))
    del fields["replicating_nodes"]  # rows of their own, see BagReplica
    return fields


def _held_by(nodes: tuple[str, ...]) -> ColumnElement[bool]:
    held = select(rows.BagReplica.bag).where(rows.BagReplica.node.in_(nodes))
    return rows.Bag.uuid.in_(held)


def _sent_it(bag: InstrumentedAttribute[str], us: str, node: str) -> ColumnElement[bool]:
    """Whether the node has sent us the right digest of this bag, or is known to keep it."""
    sent, kept = aliased(rows.ReplicationTransfer), rows.BagReplica
    return or_(
        exists().where(sent.bag == bag, sent.from_node == us, sent.to_node == node, sent.store_requested),
        exists().where(kept.bag == bag, kept.node == node),
    )


def _digests_shown(us_and_reader: tuple[str, str]) -> ColumnElement[bool]:
    us, reader = us_and_reader
    digest = rows.MessageDigest
    return or_(digest.node != us, _sent_it(digest.bag, us, reader))


def _transfers_shown(us_and_reader: tuple[str, str]) -> ColumnElement[bool]:
    """A digest that another node has sent is the bag's digest."""
    us, reader = us_and_reader
    transfer = rows.ReplicationTransfer
    tells_none = or_(transfer.from_node != us, transfer.to_node == reader, transfer.fixity_value.is_(None))
    return or_(tells_none, _sent_it(transfer.bag, us, reader))


NODES = Kind("node", NodeRecord, _table(rows.Node), columns=_node_columns, values=_node_values)

MEMBERS = Kind("member", MemberRecord, _table(rows.Member), filters=("name", "email"))

BAGS = Kind(
    "bag",
    BagRecord,
    _table(rows.Bag),
    filters=("bag_type", "admin_node", "ingest_node", "member", "first_version_uuid"),
    facets=("bag_type", "admin_node", "ingest_node"),
    owner="admin_node",
    conditions={
        "replicated_by": _held_by,
        "replicating_nodes": _held_by,
    },  # the specification's name, the server's
    columns=_bag_columns,
)

DIGESTS = Kind(
    "digest",
    DigestRecord,
    _table(rows.MessageDigest),
    filters=("bag", "node"),
    facets=("node",),
    conditions={SHOWN_TO: _digests_shown},
)

TRANSFERS = Kind(
    "replicate",
    ReplicationRecord,
    _table(rows.ReplicationTransfer),
    filters=("bag", "from_node", "to_node", "store_requested", "stored", "cancelled", "cancel_reason"),
    facets=("from_node", "to_node", "store_requested", "stored", "cancelled"),
    owner="from_node",
    conditions={SHOWN_TO: _transfers_shown},
)

RESTORES = Kind(
    "restore",
    RestoreRecord,
    _table(rows.RestoreTransfer),
    filters=("bag", "from_node", "to_node", "accepted", "finished", "cancelled", "cancel_reason"),
    facets=("from_node", "to_node", "accepted", "finished", "cancelled"),
    owner="to_node",
)

FIXITY_CHECKS = Kind(
    "fixity_check",
    FixityCheckRecord,
    _table(rows.FixityCheck),
    filters=("bag", "node", "success"),
    facets=("node", "success"),
    owner="node",
    one_of_each=("bag", "node"),
)

INGESTS = Kind(
    "ingest",
    IngestRecord,
    _table(rows.Ingest),
    filters=("bag", "ingested"),
    facets=("ingested",),
    one_of_each=("bag",),
)

KINDS: tuple[Kind[Any], ...] = (
    NODES,
    MEMBERS,
    BAGS,
    DIGESTS,
    INGESTS,
    FIXITY_CHECKS,
    TRANSFERS,
    RESTORES,
)
"""All of them, each after those that it refers to."""

REPLICAS = _table(rows.BagReplica)
