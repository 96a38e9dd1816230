"""The registry's records as they travel (DPN REST API v2): one class a record, exactly the specified fields.

Tolerant in what does not matter (missing and unknown fields, capitals in ids, fractions of a second, null lists),
strict in what does (UUIDs, namespaces, sizes, digests, lengths, text that a database cannot hold). A record that
exists is valid by itself; whether it may be stored is for `dpn.registry.rules` to say.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dpn.errors import PermanentError
from dpn.registry.wire import (
    BagTypeLetter,
    Flag,
    Instant,
    LocalId,
    LongText,
    Name,
    NamespaceList,
    NamespaceText,
    NullableFixity,
    NullableKey,
    NullableLink,
    NullableReason,
    NullableToken,
    OrNull,
    ShortName,
    ShortNames,
    Url,
    UuidList,
    UuidText,
    WireFlag,
    WireHex,
)
from dpn.text import replaced

FIXITY_ALGORITHM: Literal["sha256"] = "sha256"
"""Of every registered digest (DPN REST API v2); transfers that ask for another are declined."""

MAX_VERSION = 100_000
"""Of a bag: one that is deposited anew each hour of ten years."""

PROTOCOL = "rsync"
"""By which bags are fetched and offered; transfers by another are declined."""


class InvalidRecord(PermanentError):
    """A record breaks its own form; `problems` has one line a field, fit to be shown to whoever sent it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Record(BaseModel):
    """Base of every record: immutable, equal if all fields are."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, json_schema_serialization_defaults_required=True
    )

    KEY: ClassVar[tuple[str, ...]]
    """The fields that name the record."""

    STAMP: ClassVar[str] = "updated_at"
    """The time that `after` and `before` compare."""

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """The record in a parsed JSON object. Raises InvalidRecord."""
        if not isinstance(value, dict):
            raise InvalidRecord((f"a JSON object is needed, not {type(value).__name__}",))
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InvalidRecord(tuple(explained(problem) for problem in error.errors(include_url=False))) from None

    def to_wire(self) -> dict[str, Any]:
        """The JSON object that is sent: every field of the specification, no other."""
        return self.model_dump(mode="json")

    def change(self, **fields: Any) -> Self:
        """The same record with other values, checked as one from outside would be."""
        return type(self).model_validate({**dict(self), **fields})

    @classmethod
    def trusted(cls, fields: dict[str, Any]) -> Self:
        """The record of exactly these fields, which were checked before: ten times as quick as to check them."""
        record = cls.__new__(cls)
        for name, value in (
            ("__dict__", fields),
            ("__pydantic_fields_set__", set(fields)),
            ("__pydantic_extra__", None),
            ("__pydantic_private__", None),
        ):
            object.__setattr__(record, name, value)
        return record

    @property
    def key(self) -> tuple[str, ...]:
        return tuple([getattr(self, name) for name in self.KEY])

    @property
    def stamp(self) -> datetime:
        value: datetime = getattr(self, self.STAMP)
        return value


class StorageRecord(BaseModel):
    """Where a node keeps its copies, in words."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, json_schema_serialization_defaults_required=True
    )

    region: Name = "default"
    type: Name = "default"


def _default_storage(value: object) -> object:
    return StorageRecord() if value is None else value


class Agreement(StrEnum):
    """A list of a node's record: whom it gives bags to keep (`replicate_to`), and so on."""

    REPLICATE_FROM = "replicate_from"
    REPLICATE_TO = "replicate_to"
    RESTORE_FROM = "restore_from"
    RESTORE_TO = "restore_to"


class NodeRecord(Record):
    """A member of the network."""

    KEY = ("namespace",)

    name: Name
    namespace: NamespaceText
    api_root: Url
    ssh_pubkey: NullableKey = None
    replicate_from: NamespaceList = ()
    replicate_to: NamespaceList = ()
    restore_from: NamespaceList = ()
    restore_to: NamespaceList = ()
    protocols: ShortNames = ()
    fixity_algorithms: ShortNames = ()
    storage: Annotated[StorageRecord, BeforeValidator(_default_storage), OrNull()] = StorageRecord()
    created_at: Instant
    updated_at: Instant


class MemberRecord(Record):
    """An institution whose content the network keeps."""

    KEY = ("member_id",)

    member_id: UuidText
    name: Name
    email: Name
    created_at: Instant
    updated_at: Instant


class BagRecord(Record):
    """A bag known to the network; `size` is the bytes of its tar, as its ingest node says."""

    KEY = ("uuid",)

    uuid: UuidText
    local_id: LocalId
    member: UuidText
    size: int = Field(ge=1, le=2**63 - 1)
    first_version_uuid: UuidText
    version: int = Field(ge=1, le=MAX_VERSION)
    bag_type: BagTypeLetter
    rights: UuidList = ()
    interpretive: UuidList = ()
    ingest_node: NamespaceText
    admin_node: NamespaceText
    replicating_nodes: NamespaceList = ()
    created_at: Instant
    updated_at: Instant


class DigestRecord(Record):
    """A bag's fixity: the digest of its `tagmanifest-<algorithm>.txt`, never of the tar."""

    KEY = ("bag", "algorithm")
    STAMP = "created_at"

    bag: UuidText
    algorithm: Literal["sha256"]
    node: NamespaceText
    value: WireHex
    created_at: Instant


class ReplicationRecord(Record):
    """A bag that `from_node` (its owner) asks `to_node` to copy and keep.

    `fixity_value` and `cancel_reason` take any text, as real servers do: the rules decide what becomes of it.
    `link` is as the owner wrote it, hostile until the copy stage has parsed it.
    """

    KEY = ("replication_id",)

    replication_id: UuidText
    bag: UuidText
    from_node: NamespaceText
    to_node: NamespaceText
    fixity_algorithm: ShortName
    fixity_nonce: NullableToken = None
    fixity_value: NullableFixity = None
    protocol: ShortName
    link: LongText
    store_requested: WireFlag = False
    stored: WireFlag = False
    cancelled: WireFlag = False
    cancel_reason: NullableReason = None
    cancel_reason_detail: NullableReason = None
    created_at: Instant
    updated_at: Instant

    @property
    def is_final(self) -> bool:
        """Stored or cancelled: nothing of it changes any more."""
        return self.stored or self.cancelled


class FixityCheckRecord(Record):
    """One check of the copy that `node` keeps of a bag; never changed. `fixity_at` is when the copy was read."""

    KEY = ("fixity_check_id",)
    STAMP = "created_at"

    fixity_check_id: UuidText
    bag: UuidText
    node: NamespaceText
    success: Flag
    fixity_at: Instant
    created_at: Instant


class IngestRecord(Record):
    """A bag reached its number of copies (`ingested`) or lost it; never changed.

    `replicating_nodes` are those that hold it after the change.
    """

    KEY = ("ingest_id",)
    STAMP = "created_at"

    ingest_id: UuidText
    bag: UuidText
    ingested: Flag
    replicating_nodes: NamespaceList = ()
    created_at: Instant


class RestoreRecord(Record):
    """A bag that `to_node` (who asks, and owns the record) wants back from the copy at `from_node`.

    `link` is unset until `from_node` has staged the bag; hostile until it has been parsed.
    """

    KEY = ("restore_id",)

    restore_id: UuidText
    bag: UuidText
    from_node: NamespaceText
    to_node: NamespaceText
    protocol: ShortName
    link: NullableLink = None
    accepted: WireFlag = False
    finished: WireFlag = False
    cancelled: WireFlag = False
    cancel_reason: NullableReason = None
    cancel_reason_detail: NullableReason = None
    created_at: Instant
    updated_at: Instant

    @property
    def is_final(self) -> bool:
        """Finished or cancelled: nothing of it changes any more."""
        return self.finished or self.cancelled


def why_cancelled(record: ReplicationRecord | RestoreRecord) -> str:
    """The reason of a cancelled transfer, in words on one line, whatever its node wrote."""
    given = (record.cancel_reason, record.cancel_reason_detail)
    return replaced(": ".join(part for part in given if part), " ") or "no reason given"


def explained(problem: Any) -> str:
    """One of pydantic's problems, in words for whoever sent the value."""
    field = ".".join(str(part) for part in problem["loc"]) or "record"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}"
