"""What `--corrupt` shows once every bag has its copies: stored copies go bad, their nodes find out and fix them.

One copy after the other: a bit flips in one, another is deleted. Each is checked as by `dpn fixity check`, and
nothing else is done but to look on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.clock import SystemClock
from dpn.database import reading
from dpn.fixity.begin import begin_check
from dpn.fixity.repairs import find_repair
from dpn.registry.catalogue import FIXITY_CHECKS, find
from models.manifests import CheckManifest, RecoveryManifest
from models.work import Status, Task, WorkItem
from tools.demo.damage import Damage
from tools.demo.deposit import Request
from tools.network.node import RunningNode
from workers.pipelines import PIPELINES


@dataclass(frozen=True)
class Repair:
    """A copy that was spoilt, and what its node has made of that so far."""

    node: str
    bag: str
    damage: Damage
    check_id: str
    found: str | None = None
    """What the check found; none before."""
    recorded_bad: bool = False
    """Whether the node's registry has it that the copy is bad (success=false)."""
    item_id: int | None = None
    """The repair."""
    note: str = ""
    ended: bool = False
    source: str | None = None
    """The node whose copy took its place."""
    check_after_id: str | None = None
    recorded_good: bool = False
    """Whether the registry has it that the copy was good when it was checked after the repair."""

    @property
    def repaired(self) -> bool:
        """Whether the damage was found, recorded, repaired, and the repaired copy found good."""
        return self.recorded_bad and self.source is not None and self.recorded_good

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "bag": self.bag,
            "damage": self.damage.value,
            "found": self.found,
            "fixity_check_before": {"id": self.check_id, "success": not self.recorded_bad},
            "repaired_from": self.source,
            "item": self.item_id,
            "note": self.note,
            "fixity_check_after": {"id": self.check_after_id, "success": self.recorded_good},
            "repaired": self.repaired,
        }


def victims(requests: Sequence[Request], nodes: Sequence[str]) -> list[tuple[str, str, Damage]]:
    """Which copies go bad, and how: one at the first node that was asked, another at the second, if any."""
    chosen = []
    for node, damage in zip(nodes, Damage, strict=False):
        bag = next((request.deposit.uuid for request in requests if request.to_node == node), None)
        if bag is not None:
            chosen.append((node, bag, damage))
    return chosen


def begin(node: RunningNode, bag: str, damage: Damage) -> Repair:
    """Has the node check the copy now."""
    check_id, clock = str(uuid4()), SystemClock()
    with node.sessions.begin() as session:
        begin_check(
            session,
            bag,
            identifier=check_id,
            note="check asked for by the demo",
            agent="the demo",
            pipelines=PIPELINES,
            clock=clock,
            now=clock.now(),
        )
    return Repair(node.name, bag, damage, check_id)


def look(node: RunningNode, before: Repair) -> Repair:
    """How far the node has come."""
    with reading(node.sessions) as session:
        return _ended(session, _mended(session, _found(session, before)))


def _found(session: Session, seen: Repair) -> Repair:
    item = session.scalar(select(WorkItem).where(_is_check(seen.check_id)))
    record = find(session, FIXITY_CHECKS, seen.check_id)
    if item is None:
        return seen
    manifest = PIPELINES.read_manifest(item.task, item.manifest)
    found = manifest.found if isinstance(manifest, CheckManifest) else None
    ended = Status(item.status).is_final
    return replace(
        seen, found=found, note=item.note, ended=ended, recorded_bad=record is not None and not record.success
    )


def _mended(session: Session, seen: Repair) -> Repair:
    item = _repair_of(session, seen)
    if item is None:
        return seen
    manifest, source, after = PIPELINES.read_manifest(item.task, item.manifest), None, None
    if isinstance(manifest, RecoveryManifest) and manifest.replaced and manifest.check_item is not None:
        source = manifest.asking.node if manifest.asking and not manifest.good_again else None
        check = session.get(WorkItem, manifest.check_item)
        after = None if check is None else _record_of(check)
    failed = item.status in (Status.FAILED, Status.CANCELLED)
    return replace(seen, item_id=item.id, note=item.note, source=source, check_after_id=after, ended=failed)


def _repair_of(session: Session, seen: Repair) -> WorkItem | None:
    """The repair that our check has opened, or the one that another check, of cron's, was faster with."""
    own = find_repair(session, seen.check_id)
    if own is not None or not seen.recorded_bad:
        return own
    newest = select(WorkItem).where(WorkItem.task == Task.RECOVERY).order_by(WorkItem.id.desc())
    return next((item for item in session.scalars(newest) if item.manifest.get("bag") == seen.bag), None)


def _ended(session: Session, seen: Repair) -> Repair:
    if seen.check_after_id is None or seen.item_id is None:
        return seen
    repair = RecoveryManifest.read(session.get_one(WorkItem, seen.item_id).manifest)
    item = session.get(WorkItem, repair.check_item) if isinstance(repair, RecoveryManifest) else None
    record = find(session, FIXITY_CHECKS, seen.check_after_id)
    if item is None or not Status(item.status).is_final:
        return seen
    good = record is not None and record.success
    return replace(seen, note=item.note, recorded_good=good, ended=True)


def _record_of(check: WorkItem) -> str:
    """The id of the record of this check."""
    manifest = PIPELINES.read_manifest(check.task, check.manifest)
    return (manifest.check_id if isinstance(manifest, CheckManifest) else None) or check.identifier


def _is_check(identifier: str) -> Any:
    return (WorkItem.task == Task.FIXITY) & (WorkItem.identifier == identifier)


def line_of(seen: Repair) -> str:
    """Where it stands, for whoever watches."""
    return f"{seen.node}  {seen.bag}  {seen.note}"
