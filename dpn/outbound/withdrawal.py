"""Takes away what is offered to other nodes once nobody needs it: decided by our own registry and items alone.

| entry | goes when |
| --- | --- |
| a bag offered to a node | there are transfers of the bag to that node, and all are over |
| the bag that the offers point to | there are transfers of it, none is open, and no ingest of it is under way |

A replication is over once it is stored or cancelled. A restore is over once our item of it is: what comes of the
transfer after that is not what we offer. A bag that our registry does not know stays: that something is not there
is no reason to remove a copy.

The trail tells of each withdrawal once, by its id, whenever a worker dies: an entry loses its name, that is told,
then its bytes go. What one who died has left, the next run tells and removes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.outbound.folder import Offer, Outbound, Withdrawn
from dpn.telemetry.logs import Log
from models.registry import Bag, ReplicationTransfer, RestoreTransfer
from models.work import AuditEvent, Status, Task, WorkItem

BATCH = 500


@dataclass(frozen=True)
class OutboundCleanup:
    """See the module's docstring. `node` is ours."""

    node: str
    outbounds: Collection[Outbound]
    sessions: Sessions
    clock: Clock
    log: Log

    def run(self) -> None:
        """Withdraws what nobody needs. Raises OSError, of what could not be withdrawn, after all others were."""
        failed: list[OSError] = []
        for outbound in self.outbounds:
            left = outbound.withdrawn()
            while begun := list(islice(left, BATCH)):
                failed += self._end(outbound, begun)
            entries = outbound.entries()
            while batch := list(islice(entries, BATCH)):
                failed += self._withdraw(outbound, batch)
        if failed:
            raise failed[0]

    def withdraw(self, bag: str, node: str, *, over: str) -> None:
        """Withdraws the bag from the node, for whose restore `over` it lay there, unless there is another reason.

        Raises OSError.
        """
        for outbound in self.outbounds:
            if failed := self._withdraw(outbound, outbound.entries_of(bag, node), over):
                raise failed[0]

    def _withdraw(self, outbound: Outbound, batch: list[Offer], restore_over: str | None = None) -> list[OSError]:
        bags = sorted({entry.bag for entry in batch})
        with reading(self.sessions) as session:
            busy = _under_way(session, bags)
            transfers = _transfers(session, bags, self.node, restore_over)
        withdrawn: list[Withdrawn] = []
        failed: list[OSError] = []
        for entry in batch:
            if not is_unneeded(entry, transfers.get(entry.bag, {}), entry.bag in busy):
                continue
            try:
                if (one := outbound.withdraw(entry)) is not None:
                    withdrawn.append(one)
            except OSError as error:
                self.log.error("a bag could not be withdrawn", path=str(entry.path), error=str(error))
                failed.append(error)
        for bag in bags:
            if bag not in transfers and bag not in busy:
                self.log.warning("offered, but without a transfer in our registry: left alone", bag=bag)
        return failed + self._end(outbound, withdrawn)

    def _end(self, outbound: Outbound, withdrawn: list[Withdrawn]) -> list[OSError]:
        """Tells of what was taken away, unless that has been told, and removes what is left of it."""
        self._tell(withdrawn)
        failed: list[OSError] = []
        for one in withdrawn:
            try:
                outbound.discard(one)
            except OSError as error:
                self.log.error("what is left of a withdrawn bag stays", path=str(one.left), error=str(error))
                failed.append(error)
        return failed

    def _tell(self, withdrawn: list[Withdrawn]) -> None:
        if not withdrawn:
            return
        bags = sorted({one.entry.bag for one in withdrawn})
        with self.sessions.begin() as session:
            # Another one who has found the same waits here, and sees then what has been told.
            session.execute(select(Bag.uuid).where(Bag.uuid.in_(bags)).order_by(Bag.uuid).with_for_update())
            told = _told(session, bags)
            new = [one for one in withdrawn if one.id not in told]
            record(session, list(map(_event, new)), agent=f"dpn_cleanup of {self.node}", at=self.clock.now())
        for one in new:
            entry = one.entry
            self.log.info("bag withdrawn", bag=entry.bag, offered_to=entry.node, path=str(entry.path))


def is_unneeded(entry: Offer, over: Mapping[str, bool], under_way: bool) -> bool:
    """Whether the entry may go. `over`: for each node that was asked to keep the bag, or asked for it, whether all
    of its transfers are over; `under_way`: whether an ingest of the bag is."""
    if entry.node is not None:
        return over.get(entry.node, False)
    return bool(over) and all(over.values()) and not under_way


def _event(withdrawn: Withdrawn) -> Event:
    entry = withdrawn.entry
    detail = {"path": str(entry.path), "offered_to": entry.node, "withdrawal": withdrawn.id}
    return Event(EventType.DELETION, entry.bag, "success", detail)


def _told(session: Session, bags: list[str]) -> set[str]:
    """The ids of those withdrawals of the bags that the trail tells of."""
    statement = select(AuditEvent.detail).where(
        AuditEvent.object_id.in_(bags), AuditEvent.event_type == EventType.DELETION
    )
    return {detail["withdrawal"] for detail in session.scalars(statement) if "withdrawal" in detail}


def _transfers(session: Session, bags: list[str], us: str, restore_over: str | None) -> dict[str, dict[str, bool]]:
    """For each bag, by node: whether all of our transfers of it to that node are over."""
    found: dict[str, dict[str, bool]] = {}
    copies, restores = ReplicationTransfer, RestoreTransfer
    asked = select(copies.bag, copies.to_node, or_(copies.stored, copies.cancelled)).where(
        copies.bag.in_(bags), copies.from_node == us
    )
    item = and_(
        WorkItem.task == Task.RESTORE,
        WorkItem.identifier == restores.restore_id,
        WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
    )
    asking = (
        select(restores.bag, restores.to_node, or_(WorkItem.id.is_(None), restores.restore_id == restore_over))
        .outerjoin(WorkItem, item)
        .where(restores.bag.in_(bags), restores.from_node == us)
    )
    for bag, node, is_over in (*session.execute(asked), *session.execute(asking)):
        of_bag = found.setdefault(bag, {})
        of_bag[node] = of_bag.get(node, True) and bool(is_over)
    return found


def _under_way(session: Session, bags: list[str]) -> set[str]:
    """Those of the bags whose ingest may still have to offer them to another node."""
    statement = select(WorkItem.identifier).where(
        WorkItem.task == Task.INGEST,
        WorkItem.identifier.in_(bags),
        WorkItem.status.not_in([Status.SUCCESS, Status.CANCELLED]),
    )
    return set(session.scalars(statement))
