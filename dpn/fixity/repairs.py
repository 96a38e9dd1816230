"""Opens repairs: work items that bring a good copy from another node and put it in the place of a bad one of ours.

One repair a check that found our copy bad, however often it is asked for. It sees to what the check found, so the
check's own item no longer calls for attention.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import insert_missing
from dpn.fixity.begin import begin_check
from dpn.registry.catalogue import DIGESTS, find
from dpn.registry.records import FIXITY_ALGORITHM
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.manifests import CopyFacts, RecoveryManifest
from models.preservation import StoredCopy
from models.work import Status, Task, WorkItem


@dataclass(frozen=True)
class Repairs:
    """Where a check that has found our copy bad opens the repair."""

    pipelines: Pipelines
    clock: Clock

    def open(self, session: Session, bad: CopyFacts, *, check_id: str, found: str, found_at: datetime) -> int:
        """See `open_repair`."""
        return open_repair(
            session,
            bad,
            check_id=check_id,
            found=found,
            found_at=found_at,
            agent="fixity check",
            pipelines=self.pipelines,
            clock=self.clock,
        )

    def check_again(self, session: Session, bag: str, repair: str, repair_item: int, now: datetime) -> int:
        """Has what a repair put into the store checked at once; the same item however often it is asked."""
        item_id = begin_check(
            session,
            bag,
            identifier=check_after(repair),
            note=f"checked again: item {repair_item} has repaired our copy",
            agent=f"repair {repair}",
            pipelines=self.pipelines,
            clock=self.clock,
            now=now,
            # Who knows the check that found our copy bad knows the identifier: a peer could take it for a record.
            check_id=str(uuid4()),
            after_repair=repair_item,
        )
        if item_id is None:
            raise ValueError(f"no copy of bag {bag} is in our books")
        return item_id


def open_repair(
    session: Session,
    bad: CopyFacts,
    *,
    check_id: str,
    found: str,
    found_at: datetime | None,
    agent: str,
    pipelines: Pipelines,
    clock: Clock,
) -> int:
    """Makes the item that repairs the copy which this check found bad; returns its id. Done again, the same one.

    Nothing but `bad`, as it was when the reading began at `found_at`, will ever be replaced; if no reading has
    found it bad (none), nothing that cannot be read before.
    """
    made = find_repair(session, check_id)
    if made is not None:
        return made.id
    digest = find(session, DIGESTS, bad.bag, FIXITY_ALGORITHM)
    manifest = RecoveryManifest(
        bag=bad.bag,
        size=bad.size,
        tag_manifest_sha256=bad.tag_manifest_sha256 if digest is None else digest.value.lower(),
        purpose="repair",
        bad=bad,
        found=found,
        found_at=found_at,
    )
    row = new_item(
        task=Task.RECOVERY,
        identifier=check_id,
        remote_node=None,
        note=f"our copy is bad: {found}",
        manifest=manifest.model_dump(mode="json"),
        pipelines=pipelines,
        clock=clock,
    )
    insert_missing(session, WorkItem, [row])
    item_id = session.scalars(select(WorkItem.id).where(_is(Task.RECOVERY, check_id))).one()
    checked_by = session.scalar(select(StoredCopy.check_item).where(StoredCopy.bag == bad.bag))
    # What is being repaired is not checked meanwhile: that would find nothing new.
    session.execute(update(StoredCopy).where(StoredCopy.bag == bad.bag).values(check_item=item_id))
    now = clock.now()
    announce(session, item_id, pipelines.first(Task.RECOVERY).queue, now)
    detail = {"task": Task.RECOVERY.value, "bag": bad.bag, "fixity_check": check_id, "found": found}
    events = [Event(EventType.ITEM_CREATED, bad.bag, "pending", detail, item_id)]
    events += _take_over(session, check_id, checked_by, item_id)
    record(session, events, agent=agent, at=now)
    return item_id


def find_repair(session: Session, check_id: str) -> WorkItem | None:
    """The repair of what this check has found."""
    return session.scalar(select(WorkItem).where(_is(Task.RECOVERY, check_id)))


def was_repaired_in_vain(session: Session, bag: str) -> int | None:
    """The repair that put our copy there, unless it was found good since: another one would end no better."""
    return session.scalar(
        select(WorkItem.id)
        .join(StoredCopy, StoredCopy.item_id == WorkItem.id)
        .where(StoredCopy.bag == bag, StoredCopy.outcome != "good", WorkItem.task == Task.RECOVERY)
    )


def check_after(check_id: str) -> str:
    """The identifier of the item that follows the repair of what a check has found: always the same.

    It is no id of a record: those are not to be guessed.
    """
    return str(UUID(bytes=hashlib.sha256(f"after the repair of {check_id}".encode()).digest()[:16], version=4))


def _take_over(session: Session, check_id: str, checked_by: int | None, item_id: int) -> list[Event]:
    """The check's item has ended badly; from now on the repair calls for attention where that is needed.

    `checked_by` is the item that has checked our copy last.
    """
    ours = or_(WorkItem.identifier == check_id, WorkItem.id == checked_by)
    items = session.scalars(select(WorkItem).where(WorkItem.task == Task.FIXITY, ours).with_for_update()).all()
    check = next((item for item in items if check_id in (item.identifier, _record_id(item))), None)
    if check is None or not check.needs_attention or not Status(check.status).is_final:
        return []
    check.needs_attention = False
    detail = {"reason": f"repair: item {item_id}"}
    return [Event(EventType.OPERATOR_ACKNOWLEDGE, check.identifier, check.status, detail, check.id)]


def _record_id(check: WorkItem) -> object:
    return check.manifest.get("check_id") if isinstance(check.manifest, dict) else None


def _is(task: Task, identifier: str) -> ColumnElement[bool]:
    return and_(WorkItem.task == task, WorkItem.identifier == identifier)
