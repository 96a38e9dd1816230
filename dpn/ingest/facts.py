"""What a deposit becomes: its bag's uuid, its place in a family, the bags that it refers to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.bags.identity import BagIdentity, read_identity
from dpn.errors import NotABag
from dpn.identifiers import UUID_VERSION_4
from dpn.ingest.deposit import BagType, DepositRefused, DepositRequest, absolute, uuid_of
from dpn.ingest.standing import holder_of_local_id, is_void
from dpn.registry.catalogue import BAGS, find, find_many
from dpn.registry.records import MAX_VERSION, BagRecord
from dpn.registry.wire import parse_uuid
from models.manifests import DepositFacts, IngestManifest
from models.work import Deposit, Status, Task, WorkItem


@dataclass(frozen=True)
class _Family:
    first_version_uuid: str
    version: int


def facts_of(session: Session, request: DepositRequest, by: str, node: str, now: datetime) -> DepositFacts:
    """The deposit as `node`, which is ours, accepts it now. Raises DepositRefused where it does not fit what there
    is. Of bags in our registry only those that we administer say where it belongs."""
    identity = _identity(request) if request.as_is else None
    bag = identity.uuid if identity else str(uuid4())
    family = _family_of(session, request, bag, identity, node)
    if family.version > MAX_VERSION:
        raise DepositRefused(f"version {family.version} of {family.first_version_uuid}: at most {MAX_VERSION}")
    _refuse_taken_local_id(session, request, family, node)
    if (known := find(session, BAGS, bag)) is not None:
        _refuse_anothers(known, node, f"bag {bag} is in our registry already")
        raise DepositRefused(f"bag {bag} is in our registry already: it is not deposited twice")
    says = identity or request
    rights = _related(session, says.rights, "R", "--rights")
    interpretive = _related(session, says.interpretive, "I", "--interpretive")
    return DepositFacts(
        bag=bag,
        node=node,
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
    for uuid in (bag, first):
        if not UUID_VERSION_4.match(uuid):
            raise DepositRefused(
                f"{request.source} has or names the id {uuid}, which is no version 4 UUID, as our registry wants "
                "it: deposit its content without --as-is"
            )
    if identity.version < 1 or (identity.version == 1) != (bag == first):
        raise DepositRefused(
            f"{request.source} says that it is version {identity.version} of {first}: the first version of a "
            "family, and only that, has the family's id: deposit its content without --as-is"
        )
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


def _family_of(
    session: Session, request: DepositRequest, bag: str, identity: BagIdentity | None, node: str
) -> _Family:
    if identity is not None:
        return _family_said(session, request, identity, node)
    if request.new_version_of is None:
        return _Family(bag, 1)
    option = "--new-version-of"
    known = _known(session, [request.new_version_of], option)[request.new_version_of]
    _refuse_anothers(known, node, f"{option} {request.new_version_of}")
    if known.member != request.member:
        raise DepositRefused(f"{option} {request.new_version_of}: that bag is of member {known.member}")
    first = known.first_version_uuid
    _refuse_void(session, first, f"{option} {request.new_version_of}: its first version {first}")
    columns = BAGS.table.c
    versions = (
        select(func.max(columns.version)).where(columns.first_version_uuid == first, columns.admin_node == node),
        select(func.max(Deposit.version)).where(Deposit.first_version_uuid == first),
    )
    return _Family(first, max(session.scalar(statement) or 0 for statement in versions) + 1)


def _family_said(session: Session, request: DepositRequest, identity: BagIdentity, node: str) -> _Family:
    """The family that a bag taken as it is says it belongs to."""
    first = identity.first_version_uuid
    known = find(session, BAGS, first)
    if known is not None:
        _refuse_anothers(known, node, f"{request.source} says that it is a version of {known.uuid}")
    if known is not None and known.member != request.member:
        raise DepositRefused(
            f"{request.source} says that it is a version of {known.uuid}: that bag is of member {known.member}"
        )
    columns = BAGS.table.c
    same_place = (columns.first_version_uuid == first) & (columns.version == identity.version)
    others = same_place & (columns.uuid != identity.uuid) & (columns.admin_node == node)
    taken = session.scalars(select(columns.uuid).where(others)).first()
    if taken is not None:
        raise DepositRefused(
            f"{request.source} says that it is version {identity.version} of {first}: that is bag {taken} in our "
            "registry: deposit its content without --as-is, as a new version"
        )
    if first != identity.uuid:
        _refuse_void(session, first, f"{request.source} says that it is a version of {first}")
    return _Family(first, identity.version)


def _refuse_anothers(known: BagRecord | DepositFacts, node: str, says: str) -> None:
    """Raises DepositRefused if another node administers the bag, as far as it says."""
    if isinstance(known, BagRecord) and known.admin_node != node:
        raise DepositRefused(
            f"{says}: that bag is administered by {known.admin_node}. Have it handed over first, deposit the "
            f"content as a bag of its own, or, if it never was {known.admin_node}'s, "
            f"`dpn registry disown {known.admin_node} bag {known.uuid}`"
        )


def _refuse_taken_local_id(session: Session, request: DepositRequest, family: _Family, node: str) -> None:
    """A member's local id is one family's."""
    holder = holder_of_local_id(
        session, request.member, request.local_id, outside_family=family.first_version_uuid, node=node
    )
    if holder is None:
        return
    raise DepositRefused(
        f"local id {request.local_id!r} of this member is that of {holder} already: say --new-version-of "
        f"{holder.bag}, or use another local id{holder.way_out}"
    )


def _related(session: Session, uuids: Iterable[str], letter: str, option: str) -> list[str]:
    """Those bags, if each is known and of the type that it is named as."""
    wanted = list(uuids)
    known = _known(session, wanted, option)
    for uuid in wanted:
        kind = known[uuid].bag_type[:1].upper()
        if kind != letter:
            raise DepositRefused(f"{option} {uuid}: that bag is of type {kind}, not {letter}")
    return wanted


def _known(session: Session, bags: list[str], option: str) -> dict[str, BagRecord | DepositFacts]:
    """Each of these bags, as our registry has it or as it was deposited. Raises DepositRefused for one that is
    neither, or whose deposit came to nothing."""
    registered = find_many(session, BAGS, [(bag,) for bag in bags])
    known: dict[str, BagRecord | DepositFacts] = {bag: record for (bag,), record in registered.items()}
    missing = [bag for bag in bags if bag not in known]
    items = _items_of(session, missing)
    for bag in missing:
        if (item := items.get(bag)) is None:
            raise DepositRefused(f"{option} {bag}: no such bag in our registry: deposit or sync it first")
        if is_void(item):
            raise DepositRefused(f"{option} {bag}: {_nothing_stored(item)}")
        manifest = IngestManifest.read(item.manifest)
        known[bag] = manifest.deposit
    return known


def _refuse_void(session: Session, bag: str, says: str) -> None:
    """Raises DepositRefused if nothing came of this bag's deposit with us, and it is not in our registry."""
    item = _items_of(session, [bag]).get(bag)
    if item is not None and is_void(item) and find(session, BAGS, bag) is None:
        raise DepositRefused(f"{says}: {_nothing_stored(item)}")


def _nothing_stored(item: WorkItem) -> str:
    ended = "failed" if item.status == Status.FAILED else "was cancelled"
    return (
        f"no such bag in our registry, and its deposit, item {item.id}, {ended} before anything was stored: "
        f"`dpn item retry {item.id}`, or deposit it anew and name the bag that this makes"
    )


def _items_of(session: Session, bags: list[str]) -> dict[str, WorkItem]:
    """The items that make these bags, however they stand."""
    if not bags:
        return {}
    items = session.scalars(select(WorkItem).where(WorkItem.task == Task.INGEST, WorkItem.identifier.in_(bags)))
    return {item.identifier: item for item in items}
