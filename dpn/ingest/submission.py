"""Takes a deposit: checks what is said about it, gives it its bag's uuid, and makes the work item that ingests it.

The same deposit submitted again, also by several at once, is the same item. It is found by its key: the one that
its depositor gave it, else source, local id, bag type and family. With the key of another deposit it is refused,
unless nothing came of that one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.ingest.deposit import BAG_TYPES, DepositRefused, DepositRequest, checked, former_key_of, key_of, resolved
from dpn.ingest.facts import facts_of
from dpn.ingest.repeats import is_the_same
from dpn.ingest.standing import Holder, is_void
from dpn.registry.catalogue import MEMBERS, find
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.manifests import DepositFacts, IngestManifest
from models.work import Deposit, Status, Task, WorkItem

__all__ = [
    "BAG_TYPES",
    "DepositRefused",
    "DepositRequest",
    "Submitted",
    "is_in",
    "require_named_over_http",
    "submit",
    "submitted",
]

UNSEEN: Any = {"execution_options": {"synchronize_session": False}}
"""Of statements that change rows which this session has read and does not look at again."""

TRIES = 5
"""How often to begin anew because another deposit was faster."""


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


def submit(
    session: Session, request: DepositRequest, *, by: str, node: str, pipelines: Pipelines, clock: Clock
) -> Submitted:
    """Accepts the deposit with `node`, which is ours, in the caller's transaction. Raises DepositRefused."""
    request = checked(request)
    # Its row is locked: deposits of one member take turns, each sees what the one before it made.
    if find(session, MEMBERS, request.member, lock=True) is None:
        raise DepositRefused(
            f"no member {request.member} in our registry: `dpn_sync` brings those of other nodes, "
            "`dpn member add` makes one"
        )
    key = key_of(request)
    for _ in range(TRIES):
        earlier = _standing(session, Deposit.key == key) or _with_former_key(session, request)
        if earlier is not None and is_the_same(session, request, earlier.item):
            return earlier.told()
        facts = facts_of(session, request, by, node, clock.now())
        try:
            with session.begin_nested():
                if earlier is not None:
                    _give_up_key(session, earlier.item)
                return _make(session, key, facts, pipelines, clock)
        except IntegrityError:
            continue  # another member's deposit of the same bag was faster at this moment
    raise DepositRefused(f"{request.local_id}: many deposits of its family at once: submit it again")


def submitted(session: Session, bag: str) -> Submitted | None:
    """The deposit that makes this bag, and where it stands; None if there is no such deposit."""
    found = _standing(session, Deposit.bag == bag)
    return None if found is None else found.told()


@dataclass(frozen=True)
class _Standing:
    deposit: Deposit
    item: WorkItem

    def told(self) -> Submitted:
        return Submitted(
            item=self.item.id,
            bag=self.deposit.bag,
            version=self.deposit.version,
            first_version_uuid=self.deposit.first_version_uuid,
            status=self.item.status,
            note=self.item.note,
            repeated=True,
        )


def _standing(session: Session, which: ColumnElement[bool]) -> _Standing | None:
    statement = select(Deposit, WorkItem).join(WorkItem, WorkItem.id == Deposit.item_id).where(which)
    found = session.execute(statement).one_or_none()
    return None if found is None else _Standing(*found)


def _with_former_key(session: Session, request: DepositRequest) -> _Standing | None:
    former = former_key_of(request)
    if former is None:
        return None
    return _standing(session, and_(Deposit.key == former, Deposit.member == request.member))


def _give_up_key(session: Session, item: WorkItem) -> None:
    """What came to nothing is no longer found by its key; where it stands is still told by its bag."""
    nobodys = hashlib.sha256(f"came to nothing: {item.id}".encode()).hexdigest()
    statement = update(Deposit).where(Deposit.item_id == item.id).values(key=nobodys)
    session.execute(statement, **UNSEEN)


def require_named_over_http(source: str, folders: Iterable[Path]) -> None:
    """Raises DepositRefused for a path outside the folders that deposits over HTTP may name, links followed."""
    allowed = [folder.resolve() for folder in folders]
    if not Path(source).is_absolute() or not any(is_in(resolved(source), folder) for folder in allowed):
        raise DepositRefused(
            f"source {source[:200]!r} is not in a folder that deposits over HTTP may name: put it into one of "
            "ingest.source_folders, or have it added there"
        )


def is_in(path: Path, folder: Path) -> bool:
    """Whether the path is the folder or below it; both resolved."""
    return path.is_relative_to(folder)


def _made_way(session: Session, facts: DepositFacts) -> WorkItem | None:
    """The item of this bag, if there is one that came to nothing: a bag taken as it is has the same uuid always.

    Deposits that came to nothing lose their place in its family to it. Raises DepositRefused for others.
    """
    same_place = (Deposit.first_version_uuid == facts.first_version_uuid) & (Deposit.version == facts.version)
    statement = (
        select(WorkItem)
        .outerjoin(Deposit, Deposit.item_id == WorkItem.id)
        .where(WorkItem.task == Task.INGEST, (WorkItem.identifier == facts.bag) | same_place)
        .with_for_update(of=WorkItem)
        .execution_options(populate_existing=True)
    )
    items = session.scalars(statement).all()
    for item in items:
        if not is_void(item):
            there = Holder(item.identifier, item)
            raise DepositRefused(
                f"bag {facts.bag}, version {facts.version} of {facts.first_version_uuid}, has been deposited: "
                f"that is {there}: `dpn ingest status {there.bag}`{there.way_out}"
            )
    session.execute(delete(Deposit).where(Deposit.item_id.in_([item.id for item in items])), **UNSEEN)
    return next((item for item in items if item.identifier == facts.bag), None)


def _item(session: Session, row: dict[str, Any], present: WorkItem | None) -> int:
    """A new item, or the one that is there, as if it were new; no lease that it ever had counts any more."""
    if present is None:
        return session.execute(insert(WorkItem).returning(WorkItem.id), row).scalar_one()
    fresh = {**row, "created_at": present.created_at, "lease_token": present.lease_token + 1}
    fresh |= dict.fromkeys(("lease_owner", "lease_expires_at", "staging_volume", "waiting_since", "completed_at"))
    for name, value in fresh.items():
        setattr(present, name, value)
    session.flush()
    return present.id


def _make(session: Session, key: str, facts: DepositFacts, pipelines: Pipelines, clock: Clock) -> Submitted:
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
    item_id = _item(session, row, _made_way(session, facts))
    session.execute(
        insert(Deposit),
        {
            "key": key,
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
    announce(session, item_id, pipelines.first(Task.INGEST).queue, facts.accepted_at)
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
