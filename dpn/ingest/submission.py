"""Takes a deposit: checks what is said about it, gives it its bag's uuid, and makes the work item that ingests it.

The same deposit submitted again, also by several at once, is the same item. A deposit is the same if its depositor
gave it the same key, else if source, member, local id, bag type and family are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.bags import BagIdentity, SourceRefused, read_identity
from dpn.clock import Clock
from dpn.errors import NotABag, PermanentError
from dpn.ingest.packaging.description import check_source_name
from dpn.ingest.packaging.location import s3_location
from dpn.registry.catalogue import BAGS, MEMBERS, find, find_many
from dpn.registry.records import BagRecord
from dpn.registry.wire import parse_uuid
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.manifests import DepositFacts, IngestManifest, read_manifest
from models.work import Deposit, Status, Task, WorkItem

BagType = Literal["data", "interpretive", "rights"]
BAG_TYPES: dict[str, BagType] = {"data": "data", "interpretive": "interpretive", "rights": "rights"}

TRIES = 5
"""How often to begin anew because another deposit was faster."""

MAX_TEXT = 1024


class DepositRefused(PermanentError):
    """The deposit cannot be taken as it is; the text says what to change."""


@dataclass(frozen=True)
class DepositRequest:
    """What a depositor says. `source`: a folder, a bag (folder or tar), or `s3://bucket/prefix/`."""

    source: str
    member: str
    local_id: str
    bag_type: BagType = "data"
    rights: tuple[str, ...] = ()
    interpretive: tuple[str, ...] = ()
    new_version_of: str | None = None
    title: str | None = None
    source_name: str | None = None
    as_is: bool = False
    """The source is a tar that is a DPN bag already: it is taken byte for byte, under its own uuid."""
    key: str | None = None
    """What makes this deposit the same as another, where the depositor wants to say so himself."""
    named_over_http: bool = False
    """Whether the source must lie in `ingest.source_folders`, also when it is read."""


@dataclass(frozen=True)
class Submitted:
    """Where a deposit stands. `repeated`: it was submitted before, and nothing was made now."""

    item: int
    bag: str
    version: int
    first_version_uuid: str
    status: str
    note: str
    repeated: bool


@dataclass(frozen=True)
class _Family:
    first_version_uuid: str
    version: int


def submit(session: Session, request: DepositRequest, *, by: str, pipelines: Pipelines, clock: Clock) -> Submitted:
    """Accepts the deposit, in the caller's transaction. Raises DepositRefused."""
    request = _checked(request)
    # Its row is locked: deposits of one member take turns, each sees what the one before it made.
    if find(session, MEMBERS, request.member, lock=True) is None:
        raise DepositRefused(
            f"no member {request.member} in our registry: `dpn_sync` brings those of other nodes, "
            "`dpn member add` makes one"
        )
    for _ in range(TRIES):
        if (earlier := _submitted(session, _key(request))) is not None:
            return earlier
        facts = _facts(session, request, by, clock.now())
        try:
            with session.begin_nested():
                return _make(session, request, facts, pipelines, clock)
        except IntegrityError:
            continue  # a deposit of another member took the key at this moment
    raise DepositRefused(f"{request.local_id}: many deposits of its family at once: submit it again")


def submitted(session: Session, bag: str) -> Submitted | None:
    """The deposit that makes this bag, and where it stands; none if there is no such deposit."""
    key = session.scalar(select(Deposit.key).where(Deposit.bag == bag))
    return None if key is None else _submitted(session, key)


def _submitted(session: Session, key: str) -> Submitted | None:
    statement = select(Deposit, WorkItem.status, WorkItem.note).join(WorkItem, WorkItem.id == Deposit.item_id)
    found = session.execute(statement.where(Deposit.key == key)).one_or_none()
    if found is None:
        return None
    deposit, status, note = found
    return Submitted(
        item=deposit.item_id,
        bag=deposit.bag,
        version=deposit.version,
        first_version_uuid=deposit.first_version_uuid,
        status=status,
        note=note,
        repeated=True,
    )


def require_named_over_http(source: str, folders: Iterable[Path]) -> None:
    """Raises DepositRefused for a path outside the folders that deposits over HTTP may name, links followed."""
    path = Path(source)
    if not path.is_absolute() or not any(is_in(path.resolve(), folder.resolve()) for folder in folders):
        raise DepositRefused(
            f"source {source[:200]!r} is not in a folder that deposits over HTTP may name: put it into one of "
            "ingest.source_folders, or have it added there"
        )


def is_in(path: Path, folder: Path) -> bool:
    """Whether the path is the folder or below it; both resolved."""
    return path.is_relative_to(folder)


def _make(
    session: Session, request: DepositRequest, facts: DepositFacts, pipelines: Pipelines, clock: Clock
) -> Submitted:
    row = new_item(
        task=Task.INGEST,
        identifier=facts.bag,
        remote_node=None,
        note=f"submitted by {facts.submitted_by}",
        manifest=IngestManifest(deposit=facts).model_dump(mode="json"),
        pipelines=pipelines,
        clock=clock,
        now=clock.now(),
    )
    item_id = session.execute(insert(WorkItem).returning(WorkItem.id), row).scalar_one()
    session.execute(
        insert(Deposit),
        {
            "key": _key(request),
            "bag": facts.bag,
            "item_id": item_id,
            "member": facts.member,
            "local_id": facts.local_id,
            "first_version_uuid": facts.first_version_uuid,
            "version": facts.version,
            "submitted_by": facts.submitted_by,
            "submitted_at": facts.accepted_at,
        },
    )
    announce(session, item_id, pipelines.first(Task.INGEST).topic, facts.accepted_at)
    detail = {"task": Task.INGEST.value, "source": facts.source, "local_id": facts.local_id}
    event = Event(EventType.ITEM_CREATED, facts.bag, "pending", detail, item_id)
    record(session, [event], agent=facts.submitted_by, at=facts.accepted_at)
    return Submitted(
        item=item_id,
        bag=facts.bag,
        version=facts.version,
        first_version_uuid=facts.first_version_uuid,
        status=Status.PENDING.value,
        note=str(row["note"]),
        repeated=False,
    )


def _checked(request: DepositRequest) -> DepositRequest:
    """With ids in lower case. Raises DepositRefused for what no deposit can have."""
    for name, text in (
        ("local id", request.local_id),
        ("source", request.source),
        ("title", request.title or "x"),
    ):
        if not text or len(text) > MAX_TEXT or not text.isprintable() or text != text.strip():
            raise DepositRefused(
                f"the {name} {text[:60]!r} is empty, longer than {MAX_TEXT} characters, or has control characters "
                "or spaces at its ends"
            )
    try:
        if "://" in request.source:
            s3_location(request.source)
        if request.source_name is not None:
            check_source_name(request.source_name)
    except SourceRefused as error:
        raise DepositRefused(str(error)) from error
    new_version_of = request.new_version_of
    return DepositRequest(
        **{
            **request.__dict__,
            "member": _uuid(request.member, "--member"),
            "rights": tuple(sorted({_uuid(uuid, "--rights") for uuid in request.rights})),
            "interpretive": tuple(sorted({_uuid(uuid, "--interpretive") for uuid in request.interpretive})),
            "new_version_of": None if new_version_of is None else _uuid(new_version_of, "--new-version-of"),
        }
    )


def _facts(session: Session, request: DepositRequest, by: str, now: datetime) -> DepositFacts:
    identity = _identity(request) if request.as_is else None
    bag = identity.uuid if identity else str(uuid4())
    family = _family_of(session, request, bag, identity)
    _refuse_taken_local_id(session, request, family)
    if find(session, BAGS, bag) is not None:
        raise DepositRefused(f"bag {bag} is in our registry already: it is not deposited twice")
    says = identity or request
    rights = _related(session, says.rights, "R", "--rights")
    interpretive = _related(session, says.interpretive, "I", "--interpretive")
    return DepositFacts(
        bag=bag,
        source=_absolute(request.source),
        source_name=request.source_name,
        as_is=request.as_is,
        member=request.member,
        local_id=request.local_id,
        title=request.title,
        bag_type=request.bag_type if identity is None else _type_of(identity),
        rights=rights,
        interpretive=interpretive,
        first_version_uuid=family.first_version_uuid,
        version=family.version,
        bagging_date=date(now.year, now.month, now.day),
        accepted_at=now,
        submitted_by=by,
        named_over_http=request.named_over_http,
    )


def _identity(request: DepositRequest) -> BagIdentity:
    """Who the tar says that it is, and what it refers to. Raises DepositRefused unless that is what the depositor
    says."""
    if request.rights or request.interpretive or request.new_version_of:
        raise DepositRefused(
            f"{request.source} is taken as it is: it says itself which bags it refers to, and its version"
        )
    try:
        identity = read_identity(Path(request.source))
    except (NotABag, OSError) as error:
        raise DepositRefused(f"{request.source} is not a DPN bag to be taken as it is: {error}") from error
    if identity.local_id != request.local_id:
        raise DepositRefused(
            f"{request.source} says that its local id is {identity.local_id!r}, not {request.local_id!r}"
        )
    try:  # what it says becomes the name of files
        bag, first = parse_uuid(identity.uuid), parse_uuid(identity.first_version_uuid)
    except ValueError as error:
        raise DepositRefused(
            f"{request.source} says that it or its first version has an id that is {error}"
        ) from error
    return replace(
        identity,
        uuid=bag,
        first_version_uuid=first,
        rights=tuple(sorted({_uuid(uuid, "Rights-Object-ID") for uuid in identity.rights})),
        interpretive=tuple(sorted({_uuid(uuid, "Interpretive-Object-ID") for uuid in identity.interpretive})),
    )


def _type_of(identity: BagIdentity) -> BagType:
    kind = identity.bag_type.lower()
    if kind not in ("data", "interpretive", "rights"):
        raise DepositRefused(
            f"bag {identity.uuid} has bag type {identity.bag_type!r}: data, interpretive or rights"
        )
    return kind  # type: ignore[return-value]


def _family_of(session: Session, request: DepositRequest, bag: str, identity: BagIdentity | None) -> _Family:
    if identity is not None:
        first_version = find(session, BAGS, identity.first_version_uuid)
        if first_version is not None and first_version.member != request.member:
            raise DepositRefused(
                f"{request.source} says that it is a version of {first_version.uuid}: that bag is of member "
                f"{first_version.member}"
            )
        return _Family(identity.first_version_uuid, identity.version)
    if request.new_version_of is None:
        return _Family(bag, 1)
    earlier = find(session, BAGS, request.new_version_of)
    deposited = _under_way(session, [request.new_version_of]).get(request.new_version_of)
    known: BagRecord | DepositFacts | None = earlier or deposited
    if known is None:
        raise DepositRefused(f"--new-version-of {request.new_version_of}: no such bag in our registry")
    if known.member != request.member:
        raise DepositRefused(f"--new-version-of {request.new_version_of}: that bag is of member {known.member}")
    first = known.first_version_uuid
    versions = (
        select(func.max(BAGS.table.c.version)).where(BAGS.table.c.first_version_uuid == first),
        select(func.max(Deposit.version)).where(Deposit.first_version_uuid == first),
    )
    return _Family(first, max(session.scalar(statement) or 0 for statement in versions) + 1)


def _refuse_taken_local_id(session: Session, request: DepositRequest, family: _Family) -> None:
    """A member's local id is one family's. Deposits that were cancelled do not hold theirs."""
    deposited = (
        select(Deposit.bag, Deposit.first_version_uuid)
        .join(WorkItem, WorkItem.id == Deposit.item_id)
        .where(
            Deposit.member == request.member,
            Deposit.local_id == request.local_id,
            WorkItem.status != Status.CANCELLED,
        )
    )
    columns = BAGS.table.c
    registered = select(columns.uuid, columns.first_version_uuid).where(
        columns.member == request.member, columns.local_id == request.local_id
    )
    for statement in (registered, deposited):
        for bag, first in session.execute(statement):
            if first != family.first_version_uuid:
                raise DepositRefused(
                    f"local id {request.local_id!r} of this member is bag {bag} already: say --new-version-of "
                    f"{bag}, or use another local id"
                )


def _related(session: Session, uuids: Iterable[str], letter: str, option: str) -> list[str]:
    """Those bags, if each is known and of the type that it is named as."""
    wanted = list(uuids)
    known = find_many(session, BAGS, [(uuid,) for uuid in wanted])
    pending = _under_way(session, wanted)
    for uuid in wanted:
        bag = known.get((uuid,)) or pending.get(uuid)
        if bag is None:
            raise DepositRefused(f"{option} {uuid}: no such bag in our registry: deposit or sync it first")
        kind = bag.bag_type[:1].upper()
        if kind != letter:
            raise DepositRefused(f"{option} {uuid}: that bag is of type {kind}, not {letter}")
    return wanted


def _under_way(session: Session, bags: list[str]) -> dict[str, DepositFacts]:
    """What was deposited as one of these bags, unless it was cancelled."""
    if not bags:
        return {}
    items = select(WorkItem).where(
        WorkItem.task == Task.INGEST, WorkItem.identifier.in_(bags), WorkItem.status != Status.CANCELLED
    )
    manifests = (read_manifest(item.task, item.manifest) for item in session.scalars(items))
    return {
        manifest.deposit.bag: manifest.deposit for manifest in manifests if isinstance(manifest, IngestManifest)
    }


def _key(request: DepositRequest) -> str:
    if request.key is not None:
        said: list[object] = ["key", request.key]
    else:
        said = [
            _absolute(request.source),
            request.member,
            request.local_id,
            request.bag_type,
            request.new_version_of,
        ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _absolute(source: str) -> str:
    """A worker reads it from another folder than the depositor."""
    return source if "://" in source else str(Path(source).absolute())


def _uuid(text: str, option: str) -> str:
    try:
        return parse_uuid(text)
    except ValueError as error:
        raise DepositRefused(f"{option} {text[:60]!r}: {error}") from error
