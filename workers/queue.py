"""dpn_queue: makes items of open transfers, of restores that others ask of us, of fixity checks whose time has
come and of new copies at other nodes that are to be proven; closes those of transfers that have ended, announces
what is due.

Safe to run as often as one likes and at the same time as anything else: an item exists once a transfer, and an
announcement may be repeated. Nothing is left out because of its age unless `--hours` asks for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from uuid import uuid4

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.broker import Broker, BrokerUnavailable
from dpn.clock import Clock
from dpn.database import DATABASE_AWAY, Sessions, inserted_missing
from dpn.fixity.begin import begin_checks
from dpn.fixity.copies import take_in
from dpn.fixity.settings import FixitySettings
from dpn.outbound.settings import RestoreSettings
from dpn.recovery.drills import Drilling, begin_proofs
from dpn.registry.catalogue import TRANSFERS, find_many
from dpn.telemetry.logs import Log
from dpn.work.items import new_item
from dpn.work.pipeline import Pipelines
from dpn.work.reconciliation import close, lock_free
from dpn.work.schedule.dispatch import publish_intents
from dpn.work.schedule.sweep import FIRST_PLACE, DuePlace, announce_due_items
from models.manifests import ReplicationManifest
from models.registry import ReplicationTransfer
from models.work import Status, Task, WorkItem
from workers.recovery.withdraw import withdraw_leftover_requests
from workers.replication.ending import ended_at_owner, ends_by_itself
from workers.restore.items import RestoreItems

BATCH = 500

CROWDED_MESSAGES = 10_000
"""So many messages of a queue wake its workers for long enough. A message that waits cannot be told from one that
was lost, and more would pile up with every run of a long backlog."""


@dataclass
class QueueResult:
    """What one run did."""

    created: int = 0
    closed: int = 0
    """Items whose transfers have ended at their owners, as our registry has heard."""
    restores_declined: int = 0
    """Bags that other nodes asked back and that we do not hand out: they are told."""
    requests_withdrawn: int = 0
    """Requests of ours whose repairs or drills have failed or were cancelled: nobody waits for the bags."""
    checks_begun: int = 0
    """Fixity checks that became items."""
    proofs_begun: int = 0
    """New copies at other nodes that are drilled."""
    copies_entered: int = 0
    """Copies of items that had succeeded before copies were remembered."""
    announced: int = 0
    published: int = 0
    unknown_peers: dict[str, int] = field(default_factory=dict)
    """Open transfers from nodes that the settings do not name: nobody can work on them."""
    errors: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.errors and not self.unknown_peers


@dataclass(frozen=True)
class Queue:
    """See the module's docstring. Without `fixity`, no checks begin; without `restore`, nothing is handed back."""

    node: str
    peers: frozenset[str]
    sessions: Sessions
    broker: Broker
    pipelines: Pipelines
    clock: Clock
    log: Log
    fixity: FixitySettings | None = None
    restore: RestoreSettings | None = None
    prove_within_days: float = 0.0
    """How new a copy at another node is, to be drilled by itself; 0: none is."""

    def run(self, *, hours: float | None = None) -> QueueResult:
        """One round over everything, in batches; `hours`: only transfers changed since then become new items."""
        result = QueueResult()
        steps: dict[str, Callable[[], None]] = {
            "making items": lambda: self._make_items(result, hours),
            "closing items": lambda: self._close_items(result),
            "taking up restores": lambda: self._restores(result, hours),
            "withdrawing requests": lambda: self._withdraw_requests(result),
            "beginning checks": lambda: self._begin_checks(result),
            "beginning proofs": lambda: self._begin_proofs(result),
            "announcing items": lambda: self._announce(result),
            "publishing messages": lambda: self._publish(result),
        }
        for step, take in steps.items():
            try:
                take()
            except DATABASE_AWAY:
                raise
            except Exception as error:
                result.errors.append(f"{step} broke off: {error!r}")
                self.log.error("a step of the queue run broke off", step=step, error=repr(error), exc_info=error)
        self.log.log(
            20 if result.ok else 40,
            "queue run",
            created=result.created,
            closed=result.closed,
            restores_declined=result.restores_declined,
            requests_withdrawn=result.requests_withdrawn,
            checks_begun=result.checks_begun,
            proofs_begun=result.proofs_begun,
            copies_entered=result.copies_entered,
            announced=result.announced,
            published=result.published,
            unknown_peers=result.unknown_peers,
            errors=result.errors,
        )
        return result

    def _withdraw_requests(self, result: QueueResult) -> None:
        result.requests_withdrawn = withdraw_leftover_requests(self.sessions, node=self.node, clock=self.clock)

    def _publish(self, result: QueueResult) -> None:
        try:
            result.published = publish_intents(self.sessions, self.broker)
        except BrokerUnavailable as error:
            result.errors.append(str(error))

    def _make_items(self, result: QueueResult, hours: float | None) -> None:
        after = ""
        while True:
            with self.sessions.begin() as session:
                now = session.execute(select(self.clock.in_database())).scalar_one()
                batch = self._transfers_without_item(session, after, hours)
                rows = []
                for replication_id, from_node in batch:
                    if from_node in self.peers:
                        rows.append(self._item(replication_id, from_node, now))
                    else:
                        result.unknown_peers[from_node] = result.unknown_peers.get(from_node, 0) + 1
                result.created += self._insert(session, rows, now)
            if len(batch) < BATCH:
                return
            after = batch[-1][0]

    def _close_items(self, result: QueueResult) -> None:
        """Ends what has ended at its owner, except what a live worker holds: that worker asks the owner itself."""
        last_id = 0
        while True:
            with self.sessions.begin() as session:
                now = session.execute(select(self.clock.in_database())).scalar_one()
                batch = self._items_of_ended_transfers(session, last_id)
                free = lock_free(session, dict(batch), now)
                ended = find_many(session, TRANSFERS, [(item.identifier,) for item in free.values()])
                events = [
                    close(session, item, ended_at_owner(item, record_), self.pipelines, self.clock)
                    for item in free.values()
                    if not ends_by_itself(item, record_ := ended[item.identifier,])
                ]
                record(session, events, agent=f"dpn_queue of {self.node}", at=self.clock.now())
            result.closed += len(events)
            if len(batch) < BATCH:
                return
            last_id = batch[-1][0]

    def _restores(self, result: QueueResult, hours: float | None) -> None:
        """What other nodes ask back: ended first, so that what is asked again takes the place of what was."""
        if self.restore is None:
            return
        items = RestoreItems(self.node, self.peers, self.sessions, self.pipelines, self.restore, self.clock)
        result.closed += items.close()
        made = items.make(hours)
        result.created += made.created
        result.restores_declined += made.declined
        for peer, count in items.unknown_peers(hours).items():
            result.unknown_peers[peer] = result.unknown_peers.get(peer, 0) + count

    def _begin_checks(self, result: QueueResult) -> None:
        """Enters copies from before there were checks, then makes items of the checks that begin now."""
        if self.fixity is None or Task.FIXITY not in self.pipelines.tasks:
            return
        agent = f"dpn_queue of {self.node}"
        with self.sessions.begin() as session:
            now = session.execute(select(self.clock.in_database())).scalar_one()
            result.copies_entered = take_in(session, every_days=self.fixity.every_days, now=now)
        with self.sessions.begin() as session:
            result.checks_begun, damaged = begin_checks(
                session, self.fixity, agent=agent, pipelines=self.pipelines, clock=self.clock, now=now
            )
        result.errors += [
            f"our copy of bag {bag} is not checked: its row is damaged: repair it" for bag in damaged
        ]

    def _begin_proofs(self, result: QueueResult) -> None:
        """New copies at other nodes are their word until a drill has read them."""
        if not self.prove_within_days:
            return
        agent = f"dpn_queue of {self.node}"
        with self.sessions.begin() as session:
            now = session.execute(select(self.clock.in_database())).scalar_one()
            drilling = Drilling(str(uuid4()), agent, self.pipelines, self.clock, now)
            result.proofs_begun = begin_proofs(
                session, drilling, self.node, peers=self.peers, within_days=self.prove_within_days
            )

    def _items_of_ended_transfers(self, session: Session, after: int) -> list[tuple[int, int]]:
        """A batch of open items, with their tokens, whose transfers have ended in our registry."""
        statement = (
            select(WorkItem.id, WorkItem.lease_token)
            .join(ReplicationTransfer, ReplicationTransfer.replication_id == WorkItem.identifier)
            .where(
                WorkItem.task == Task.REPLICATION,
                WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
                WorkItem.remote_node == ReplicationTransfer.from_node,
                or_(ReplicationTransfer.stored, ReplicationTransfer.cancelled),
                WorkItem.id > after,
            )
            .order_by(WorkItem.id)
            .limit(BATCH)
        )
        return [(item_id, token) for item_id, token in session.execute(statement)]

    def _insert(self, session: Session, rows: list[dict[str, object]], now: datetime) -> int:
        """Makes those items that no other run was faster with, each with its event in the audit trail."""
        made = inserted_missing(session, WorkItem, rows, WorkItem.id, WorkItem.identifier, WorkItem.remote_node)
        task = Task.REPLICATION.value
        events = [
            Event(
                EventType.ITEM_CREATED, row.identifier, "pending", {"task": task, "peer": row.remote_node}, row.id
            )
            for row in made
        ]
        record(session, events, agent=f"dpn_queue of {self.node}", at=now)
        return len(made)

    def _transfers_without_item(self, session: Session, after: str, hours: float | None) -> list[tuple[str, str]]:
        """A batch of open transfers to us that have no item yet, by id."""
        is_its_item = and_(
            WorkItem.task == Task.REPLICATION, WorkItem.identifier == ReplicationTransfer.replication_id
        )
        statement = (
            select(ReplicationTransfer.replication_id, ReplicationTransfer.from_node)
            .outerjoin(WorkItem, is_its_item)
            .where(
                ReplicationTransfer.to_node == self.node,
                ReplicationTransfer.from_node != self.node,
                ReplicationTransfer.stored.is_(False),
                ReplicationTransfer.cancelled.is_(False),
                ReplicationTransfer.replication_id > after,
                WorkItem.id.is_(None),
            )
            .order_by(ReplicationTransfer.replication_id)
            .limit(BATCH)
        )
        if hours is not None:
            since = self.clock.now() - timedelta(hours=hours)
            statement = statement.where(ReplicationTransfer.updated_at >= since)
        return [(replication_id, from_node) for replication_id, from_node in session.execute(statement)]

    def _item(self, replication_id: str, from_node: str, now: datetime) -> dict[str, object]:
        return new_item(
            task=Task.REPLICATION,
            identifier=replication_id,
            remote_node=from_node,
            note=f"requested by {from_node}",
            manifest=ReplicationManifest().model_dump(mode="json"),
            pipelines=self.pipelines,
            clock=self.clock,
            now=now,
        )

    def _announce(self, result: QueueResult) -> None:
        crowded = cache(lambda queue: self.broker.waiting(queue) >= CROWDED_MESSAGES)
        place: DuePlace | None = FIRST_PLACE
        while place is not None:
            with self.sessions.begin() as session:
                announced = announce_due_items(
                    session, after=place, pipelines=self.pipelines, clock=self.clock, crowded=crowded
                )
            result.announced += len(announced.items)
            place = announced.last
