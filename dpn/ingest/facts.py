"""What a deposit becomes: its bag's uuid, its place in a family, the bags that it refers to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.bags import BagIdentity, read_identity
from dpn.errors import NotABag
from dpn.ingest.deposit import BagType, DepositRefused, DepositRequest, absolute, uuid_of
from dpn.registry.catalogue import BAGS, find, find_many
from dpn.registry.records import BagRecord
from dpn.registry.wire import parse_uuid
from models.manifests import DepositFacts, IngestManifest, read_manifest
from models.work import Deposit, Status, Task, WorkItem


@dataclass(frozen=True)
class _Family:
    first_version_uuid: str
    version: int


def facts_of(session: Session, request: DepositRequest, by: str, now: datetime) -> DepositFacts:
    """The deposit as it is accepted now. Raises DepositRefused where it does not fit what there is."""
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
        source=absolute(request.source),
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
        rights=tuple(sorted({uuid_of(uuid, "Rights-Object-ID") for uuid in identity.rights})),
        interpretive=tuple(sorted({uuid_of(uuid, "Interpretive-Object-ID") for uuid in identity.interpretive})),
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
