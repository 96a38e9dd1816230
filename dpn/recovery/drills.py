"""Restore drills: bags brought back to scratch space and proven, from our store and from every peer.

A drill makes work items: a check of our own copy that reads it from the store, or a recovery from a peer that ends
once the bag has come and is proven. How they end is told by the next drill, or by a report.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Select, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import inserted_missing
from dpn.fixity.begin import begin_check
from dpn.fixity.copies import lock_pace
from dpn.recovery.sample import Page, draw
from dpn.registry.catalogue import BAGS, DIGESTS, find_many
from dpn.registry.records import FIXITY_ALGORITHM
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.transitions import announce
from models.manifests import RecoveryManifest
from models.preservation import DrilledBag, StoredCopy
from models.registry import BagReplica, MessageDigest, ReplicationTransfer
from models.work import Status, Task, WorkItem

STORE, PEER = "store:", "peer:"
OPEN = (Status.PENDING, Status.RUNNING)

PROOFS_AT_ONCE = 10
"""No more requests than recoveries have open at a node at once: what is beyond would only wait."""

RECENT = timedelta(days=35)
"""How long ends that were told already are shown again to who asks for them: monthly drills included."""

Result = Literal["good", "bad", "cancelled", "waiting"]


@dataclass(frozen=True)
class Drilled:
    """A bag of a drill, and what has come of it."""

    item: int
    drill: str
    source: str
    bag: str
    begun_at: datetime
    result: Result
    note: str
    waits_seconds: float
    """How long it waits already; 0 once it has ended."""


@dataclass(frozen=True)
class Begun:
    """What a drill began with one source; or why it did not."""

    source: str
    bags: tuple[str, ...] = ()
    items: tuple[int, ...] = ()
    skipped: str | None = None


@dataclass(frozen=True)
class Drilling:
    """Who drills, by what, and when; the same for all sources of a drill."""

    drill_id: str
    agent: str
    pipelines: Pipelines
    clock: Clock
    now: datetime


def begin_drill(
    session: Session, drilling: Drilling, sources: Sequence[str], *, sample: int, seed: int
) -> list[Begun]:
    """Makes the items of a drill: `sample` bags from each of `sources` (`store:<name>` and `peer:<namespace>`).

    The same seed over the same records draws the same bags. A source whose last drill has not ended is left out:
    of two drills at once, one begins nothing. What is read of our store counts for the limits of fixity checks,
    and is not held back by them. Copies of ours that are known to be bad, or being checked, are not drawn.
    """
    lock_pace(session)  # no other drill, nor dpn_queue, begins checks meanwhile
    waiting = {one.source: one for one in drilled(session, now=drilling.now) if one.result == "waiting"}
    begun = []
    for source in sources:
        if (last := waiting.get(source)) is not None:
            why = f"its drill of {last.begun_at:%Y-%m-%d %H:%M} UTC has not ended: item {last.item} is under way"
            begun.append(Begun(source, skipped=why))
            continue
        rng = random.Random(f"{seed} {source}")  # noqa: S311  (a sample that can be drawn again, no secret)
        page = _our_copies(session) if source.startswith(STORE) else _held_by(session, source.removeprefix(PEER))
        begun.append(_begin(session, drilling, source, draw(page, sample, rng)))
    return begun


def begin_proofs(
    session: Session, drilling: Drilling, us: str, *, peers: Collection[str], within_days: float
) -> int:
    """Drills the new copies of our bags at `peers`: each that was said to be stored within so many days, and that
    no drill has begun to read since; returns how many. A peer has at most PROOFS_AT_ONCE drilled at a time."""
    lock_pace(session)
    room = {peer: PROOFS_AT_ONCE - waiting for peer, waiting in _waiting(session, peers).items()}
    claimed: dict[str, list[str]] = defaultdict(list)
    since = drilling.now - timedelta(days=within_days)
    for peer, bag in session.execute(_new_claims(us, [peer for peer in room if room[peer] > 0], since)):
        if len(claimed[peer]) < room[peer]:
            claimed[peer].append(bag)
    return sum(len(_begin(session, drilling, PEER + peer, bags).items) for peer, bags in claimed.items())


def drilled(session: Session, *, now: datetime, recent: bool = False) -> list[Drilled]:
    """The bags of drills whose end no report has told, oldest first; with `recent` those told lately, too."""
    untold, told_lately = DrilledBag.reported_at.is_(None), DrilledBag.reported_at >= now - RECENT
    statement = (
        select(DrilledBag, WorkItem.status, WorkItem.note)
        .outerjoin(WorkItem, WorkItem.id == DrilledBag.item_id)
        .where(or_(untold, told_lately) if recent else untold)
        .order_by(DrilledBag.item_id)
    )
    return [_drilled(row, status, note, now) for row, status, note in session.execute(statement)]


def note_told(session: Session, told: Sequence[Drilled], *, now: datetime) -> None:
    """What has ended of these was told: the next report is about others."""
    ended = [{"item_id": one.item, "reported_at": now} for one in told if one.result != "waiting"]
    if ended:
        session.execute(update(DrilledBag), ended)


def _drilled(row: DrilledBag, status: str | None, note: str | None, now: datetime) -> Drilled:
    results: dict[str | None, Result] = {
        Status.SUCCESS: "good",
        Status.FAILED: "bad",
        Status.PENDING: "waiting",
        Status.RUNNING: "waiting",
    }
    result = results.get(status, "cancelled")
    waits = max(0.0, (now - row.begun_at).total_seconds()) if result == "waiting" else 0.0
    return Drilled(row.item_id, row.drill_id, row.source, row.bag, row.begun_at, result, note or "", waits)


# -- drawing -----------------------------------------------------------------------------------------------------


def _our_copies(session: Session) -> Page:
    """The copies in our store that count, and that nobody reads right now."""
    running = exists().where(WorkItem.id == StoredCopy.check_item, WorkItem.status.in_(OPEN))

    def page(first: str, most: int) -> list[str]:
        of_ours = select(StoredCopy.bag).where(StoredCopy.bag >= first, StoredCopy.outcome != "bad", ~running)
        return list(session.scalars(of_ours.order_by(StoredCopy.bag).limit(most)))

    return page


def _held_by(session: Session, peer: str) -> Page:
    """The bags that a node holds as our registry has it, and of which it has the digest that proves them."""
    proven = exists().where(MessageDigest.bag == BagReplica.bag, MessageDigest.algorithm == FIXITY_ALGORITHM)

    def page(first: str, most: int) -> list[str]:
        of_peer = select(BagReplica.bag).where(BagReplica.node == peer, BagReplica.bag >= first, proven)
        return list(session.scalars(of_peer.order_by(BagReplica.bag).limit(most)))

    return page


def _waiting(session: Session, peers: Collection[str]) -> dict[str, int]:
    """How many drills of each of these peers have not ended."""
    statement = (
        select(DrilledBag.source, func.count())
        .join(WorkItem, WorkItem.id == DrilledBag.item_id)
        .where(WorkItem.task == Task.RECOVERY, WorkItem.status.in_(OPEN))
        .group_by(DrilledBag.source)
    )
    counts = dict(session.execute(statement).all())
    return {peer: counts.get(PEER + peer, 0) for peer in sorted(peers)}


def _new_claims(us: str, peers: Sequence[str], since: datetime) -> Select[str, str]:
    """Node and bag of each copy stored for us since then that no drill has begun to read; oldest first."""
    transfer = ReplicationTransfer
    is_drilled = exists().where(
        DrilledBag.bag == transfer.bag,
        DrilledBag.source == literal(PEER) + transfer.to_node,
        DrilledBag.begun_at >= transfer.updated_at,
    )
    is_kept = exists().where(BagReplica.bag == transfer.bag, BagReplica.node == transfer.to_node)
    can_be_proven = exists().where(MessageDigest.bag == transfer.bag, MessageDigest.algorithm == FIXITY_ALGORITHM)
    return (
        select(transfer.to_node, transfer.bag)
        .where(transfer.from_node == us, transfer.stored, transfer.updated_at >= since)
        .where(transfer.to_node.in_(peers), ~is_drilled, is_kept, can_be_proven)
        .group_by(transfer.to_node, transfer.bag)
        .order_by(func.max(transfer.updated_at), transfer.bag)
    )


# -- making items ------------------------------------------------------------------------------------------------


def _begin(session: Session, drilling: Drilling, source: str, bags: Sequence[str]) -> Begun:
    if source.startswith(STORE):
        items = [_begin_check(session, drilling, bag) for bag in bags]
    else:
        items = _begin_recoveries(session, drilling, source.removeprefix(PEER), bags)
    rows = [
        {
            "item_id": item,
            "drill_id": drilling.drill_id,
            "source": source,
            "bag": bag,
            "begun_at": drilling.now,
            "reported_at": None,
        }
        for item, bag in zip(items, bags, strict=True)
    ]
    inserted_missing(session, DrilledBag, rows, DrilledBag.item_id)
    return Begun(source, tuple(bags), tuple(items))


def _begin_check(session: Session, drilling: Drilling, bag: str) -> int:
    item = begin_check(
        session,
        bag,
        identifier=str(uuid4()),
        note=f"restore drill {drilling.drill_id}",
        agent=drilling.agent,
        pipelines=drilling.pipelines,
        clock=drilling.clock,
        now=drilling.now,
        away=True,
    )
    if item is None:
        raise ValueError(f"no copy of bag {bag} is in our books")
    return item


def _begin_recoveries(session: Session, drilling: Drilling, peer: str, bags: Sequence[str]) -> list[int]:
    """The items, in the order of `bags`."""
    known = find_many(session, BAGS, [(bag,) for bag in bags])
    digests = find_many(session, DIGESTS, [(bag, FIXITY_ALGORITHM) for bag in bags])
    names = {bag: str(uuid4()) for bag in bags}
    rows = [
        new_item(
            task=Task.RECOVERY,
            identifier=names[bag],
            remote_node=None,
            note=f"restore drill {drilling.drill_id}: from {peer}",
            manifest=_manifest(bag, known[bag,].size, digests[bag, FIXITY_ALGORITHM].value, peer),
            pipelines=drilling.pipelines,
            clock=drilling.clock,
            now=drilling.now,
        )
        for bag in bags
    ]
    made = inserted_missing(session, WorkItem, rows, WorkItem.id, WorkItem.identifier)
    by_name = {row.identifier: row.id for row in made}
    items = [by_name[names[bag]] for bag in bags]
    events = []
    for item, bag in zip(items, bags, strict=True):
        announce(session, item, drilling.pipelines.first(Task.RECOVERY).queue, drilling.now)
        detail = {"task": Task.RECOVERY.value, "bag": bag, "drill": drilling.drill_id, "from_node": peer}
        events.append(Event(EventType.ITEM_CREATED, bag, "pending", detail, item))
    record(session, events, agent=drilling.agent, at=drilling.now)
    return items


def _manifest(bag: str, size: int, digest: str, peer: str) -> dict[str, Any]:
    manifest = RecoveryManifest(
        bag=bag, size=size, tag_manifest_sha256=digest.lower(), purpose="drill", only_node=peer
    )
    return manifest.model_dump(mode="json")
