"""Makes items of what other nodes ask back from us, or declines it; ends items whose requests have ended.

At most one item is open for a bag and the node that asks for it, and so many for a node: a node that asks for
everything at once, or for the same thing again and again, costs us no more than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, true
from sqlalchemy.orm import Session, aliased

from dpn.audit.trail import Event, EventType, record
from dpn.clock import Clock
from dpn.database import Sessions, inserted_missing, reading
from dpn.outbound.settings import RestoreSettings
from dpn.registry.catalogue import NODES, RESTORES, find, find_many
from dpn.registry.rules.flags import CancelReason
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.reconciliation import close, lock_free
from models.manifests import CopyFacts, RestoreFacts, RestoreManifest
from models.preservation import StoredCopy
from models.registry import RestoreTransfer
from models.work import Status, Task, WorkItem
from workers.cancellations import TransferCancellation, notice_identifier, owe_notice
from workers.restore.ending import ended_at_requester
from workers.restore.rules import Asked, refusal

BATCH = 50
"""Receipts of large bags are long: no more of them are in memory."""

Request = tuple[RestoreTransfer, StoredCopy | None]

OPEN = (Status.PENDING, Status.RUNNING)


@dataclass
class Made:
    """What one run came to."""

    created: int = 0
    declined: int = 0


@dataclass(frozen=True)
class RestoreItems:
    """See the module's docstring. `node` is ours, `peers` are the nodes that our settings name."""

    node: str
    peers: frozenset[str]
    sessions: Sessions
    pipelines: Pipelines
    settings: RestoreSettings
    clock: Clock

    def make(self, hours: float | None = None) -> Made:
        """One round over all open requests, in batches; `hours`: only over those changed since then."""
        made = Made()
        after: RestoreTransfer | None = None
        while True:
            with self.sessions.begin() as session:
                now = session.execute(select(self.clock.in_database())).scalar_one()
                batch = self._requests(session, after, hours)
                self._take(session, batch, made, now)
            if len(batch) < BATCH:
                return made
            after = batch[-1][0]

    def close(self) -> int:
        """Ends what has ended at its requester, except what a live worker holds; returns how many items."""
        closed, last_id = 0, 0
        while True:
            with self.sessions.begin() as session:
                now = session.execute(select(self.clock.in_database())).scalar_one()
                batch = self._items_of_ended(session, last_id)
                free = lock_free(session, dict(batch), now)
                ended = find_many(session, RESTORES, [(item.identifier,) for item in free.values()])
                events = [
                    close(
                        session,
                        item,
                        ended_at_requester(item, ended[item.identifier,]),
                        self.pipelines,
                        self.clock,
                    )
                    for item in free.values()
                ]
                record(session, events, agent=self._agent, at=self.clock.now())
            closed += len(events)
            if len(batch) < BATCH:
                return closed
            last_id = batch[-1][0]

    def unknown_peers(self, hours: float | None = None) -> dict[str, int]:
        """Open requests of nodes that the settings do not name, counted: nobody can work on them."""
        columns = RestoreTransfer
        statement = (
            select(columns.to_node, func.count())
            .where(*self._is_open(hours), columns.to_node.not_in(self.peers))
            .group_by(columns.to_node)
        )
        with reading(self.sessions) as session:
            return {str(peer): count for peer, count in session.execute(statement)}

    @property
    def _agent(self) -> str:
        return f"dpn_queue of {self.node}"

    def _is_open(self, hours: float | None) -> list[Any]:
        columns = RestoreTransfer
        where = [
            columns.from_node == self.node,
            columns.to_node != self.node,
            columns.finished.is_(False),
            columns.cancelled.is_(False),
        ]
        if hours is not None:
            where.append(columns.updated_at >= self.clock.now() - timedelta(hours=hours))
        return where

    # -- taking up what is asked -------------------------------------------------------------------------------

    def _requests(self, session: Session, after: RestoreTransfer | None, hours: float | None) -> Sequence[Request]:
        """A batch of open requests, with our copies, that have neither become items nor been declined.

        Those made first come first: of a node that always asks for more than it gets, none waits for ever.
        """
        asked, item, notice = RestoreTransfer, aliased(WorkItem), aliased(WorkItem)
        is_its_item = and_(item.task == Task.RESTORE, item.identifier == asked.restore_id)
        is_notice_of_it = and_(
            notice.task == Task.NOTICE,
            notice.identifier == literal(notice_identifier(Task.RESTORE, "")) + asked.restore_id,
        )
        statement = (
            select(asked, StoredCopy)
            .outerjoin(StoredCopy, StoredCopy.bag == asked.bag)
            .outerjoin(item, is_its_item)
            .outerjoin(notice, is_notice_of_it)
            .where(
                *self._is_open(hours),
                asked.to_node.in_(self.peers - self._busy_peers(session)),
                true() if after is None else _is_after(after),
                item.id.is_(None),
                notice.id.is_(None),
                ~self._is_under_way(),
            )
            .order_by(asked.created_at, asked.restore_id)
            .limit(BATCH)
        )
        return [(transfer, copy) for transfer, copy in session.execute(statement)]

    def _busy_peers(self, session: Session) -> set[str]:
        """Peers that as many bags are being brought for as we bring at once."""
        return {
            peer for peer, count in self._open_items(session).items() if count >= self.settings.max_open_per_node
        }

    def _open_items(self, session: Session) -> dict[str, int]:
        statement = (
            select(WorkItem.remote_node, func.count())
            .where(WorkItem.task == Task.RESTORE, WorkItem.status.in_(OPEN))
            .group_by(WorkItem.remote_node)
        )
        return {str(peer): count for peer, count in session.execute(statement)}

    @staticmethod
    def _is_under_way() -> Any:
        """Whether the same bag is being brought for the same node, under another request."""
        other, item = aliased(RestoreTransfer), aliased(WorkItem)
        is_its_item = and_(item.task == Task.RESTORE, item.identifier == other.restore_id, item.status.in_(OPEN))
        return (
            select(item.id)
            .join(other, is_its_item)
            .where(other.bag == RestoreTransfer.bag, other.to_node == RestoreTransfer.to_node)
            .exists()
        )

    def _take(self, session: Session, batch: Sequence[Request], made: Made, now: datetime) -> None:
        ours = find(session, NODES, self.node)
        restore_to = ours.restore_to if ours is not None else ()
        room = self._open_items(session)
        wanted: dict[tuple[str, str], dict[str, Any]] = {}
        for transfer, copy in batch:
            size = None if copy is None else copy.size
            why = refusal(Asked(transfer.to_node, transfer.protocol, size), self.settings, restore_to)
            if why is not None:
                self._decline(session, transfer, why)
                made.declined += 1
            elif copy is not None and room.get(transfer.to_node, 0) < self.settings.max_open_per_node:
                key = (transfer.bag, transfer.to_node)
                if key not in wanted:
                    room[transfer.to_node] = room.get(transfer.to_node, 0) + 1
                    wanted[key] = self._item(transfer, copy, now)
        made.created += self._insert(session, list(wanted.values()), now)

    def _decline(self, session: Session, transfer: RestoreTransfer, why: str) -> None:
        owe_notice(
            session,
            TransferCancellation(CancelReason.REJECT, why),
            task=Task.RESTORE,
            transfer_id=transfer.restore_id,
            peer=transfer.to_node,
            item_id=None,
            pipelines=self.pipelines,
            clock=self.clock,
        )

    def _item(self, transfer: RestoreTransfer, copy: StoredCopy, now: datetime) -> dict[str, Any]:
        manifest = RestoreManifest(
            copied=CopyFacts.model_validate({name: getattr(copy, name) for name in CopyFacts.model_fields}),
            away=True,  # what another node fetches is never the store's own file
            transfer=RestoreFacts.model_validate(
                {name: getattr(transfer, name) for name in RestoreFacts.model_fields}
            ),
        )
        return new_item(
            task=Task.RESTORE,
            identifier=transfer.restore_id,
            remote_node=transfer.to_node,
            note=f"asked for by {transfer.to_node}",
            manifest=manifest.model_dump(mode="json"),
            pipelines=self.pipelines,
            clock=self.clock,
            now=now,
        )

    def _insert(self, session: Session, rows: list[dict[str, Any]], now: datetime) -> int:
        columns = (WorkItem.id, WorkItem.identifier, WorkItem.remote_node)
        made = inserted_missing(session, WorkItem, rows, *columns)
        task = Task.RESTORE.value
        events = [
            Event(
                EventType.ITEM_CREATED, row.identifier, "pending", {"task": task, "peer": row.remote_node}, row.id
            )
            for row in made
        ]
        record(session, events, agent=self._agent, at=now)
        return len(made)

    # -- what has ended ------------------------------------------------------------------------------------------

    @staticmethod
    def _items_of_ended(session: Session, after: int) -> list[tuple[int, int]]:
        """A batch of open items, with their tokens, whose requests have ended in our registry."""
        asked = RestoreTransfer
        statement = (
            select(WorkItem.id, WorkItem.lease_token)
            .join(asked, asked.restore_id == WorkItem.identifier)
            .where(
                WorkItem.task == Task.RESTORE,
                WorkItem.status.in_(OPEN),
                WorkItem.remote_node == asked.to_node,
                or_(asked.finished, asked.cancelled),
                WorkItem.id > after,
            )
            .order_by(WorkItem.id)
            .limit(BATCH)
        )
        return [(item_id, token) for item_id, token in session.execute(statement)]


def _is_after(last: RestoreTransfer) -> ColumnElement[bool]:
    """In the order in which requests were made."""
    asked = RestoreTransfer
    later_id = and_(asked.created_at == last.created_at, asked.restore_id > last.restore_id)
    return or_(asked.created_at > last.created_at, later_id)
