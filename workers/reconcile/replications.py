"""The reconciliation with one peer: its transfers to us, and ours as we have them, held against each other.

Lists first; each open transfer that a list did not show is asked for by itself. What had ended here begins anew
only after its owner, asked once more, still calls it open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.database import reading
from dpn.registry.catalogue import TRANSFERS, apply_from_peer, find_many
from dpn.registry.catalogue.rows import save
from dpn.registry.client.batches import records_of
from dpn.registry.records import ReplicationRecord
from dpn.registry.rules.decisions import read_only_changes
from dpn.registry.rules.flags import CancelReason
from dpn.registry.rules.transfers import COURSE
from dpn.work.reconciling import close, lock_free, reopen
from models.registry import ReplicationTransfer
from models.work import Status, Task, WorkItem
from workers.cancellations import TransferCancellation, owe_notice
from workers.reconcile.peer_walk import Walk, here
from workers.reconcile.restores import RestoresWithPeer
from workers.reconcile.rules import AtOwner, Situation, Step, decide
from workers.replication.ending import ended_at_owner, receipt_of

STORE_STAGE = "store"
"""Where an item goes that has its receipt and must tell of it."""


@dataclass(frozen=True)
class _Found:
    """One transfer: as its owner has it, as we have it, and what it makes us do."""

    id: str
    theirs: ReplicationRecord | None
    ours: ReplicationRecord | None
    item: WorkItem | None
    step: Step

    @property
    def needs_another_look(self) -> bool:
        """Whether what is to be done contradicts what we know, and the list may have been read too long ago."""
        return self.step in (Step.REOPEN, Step.TELL) or self.went_back

    @property
    def went_back(self) -> bool:
        """Whether it had ended here, and its owner calls the same transfer open: it has forgotten."""
        if self.ours is None or self.theirs is None or self.theirs.is_final or not self.ours.is_final:
            return False
        return not read_only_changes(self.ours, self.theirs, COURSE.identity)


class WithPeer:
    """The reconciliation with one peer: its replications to us, then the restores that it asks of us."""

    def __init__(self, walk: Walk) -> None:
        self.result = walk.result
        self._walk = walk
        self._peer = walk.peer
        self._client = walk.client
        self._sessions = walk.sessions
        self._pipelines = walk.pipelines
        self._clock = walk.clock
        self._shown: set[str] = set()

    def run(self) -> None:
        self._count_ours()
        for rows in self._open_at_owner():
            self._compare([row for row in records_of(rows) if isinstance(row, ReplicationRecord)], [])
        for ids in self._open_here():
            self._ask_for([id_ for id_ in ids if id_ not in self._shown])
        RestoresWithPeer(self._walk).run()

    # -- what there is -------------------------------------------------------------------------------------------

    def _open_at_owner(self) -> Iterator[list[Any]]:
        pages = self._client.list_transfers(
            from_node=self._peer, to_node=self._walk.node, stored=False, cancelled=False
        )
        yield from self._walk.listed(pages)

    def _open_here(self) -> Iterator[list[str]]:
        """The ids of transfers that our registry or our items call open, in batches."""
        row = ReplicationTransfer
        yield from self._walk.pages(
            row.replication_id,
            row.from_node == self._peer,
            row.to_node == self._walk.node,
            row.stored.is_(False),
            row.cancelled.is_(False),
        )
        yield from self._walk.pages(
            WorkItem.identifier,
            WorkItem.task == Task.REPLICATION,
            WorkItem.remote_node == self._peer,
            WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
        )

    def _ask_for(self, ids: Sequence[str]) -> None:
        """Each by itself: that a list did not show them says nothing."""
        found, unknown = [], []
        for id_ in ids:
            theirs = self._asked(id_)
            if theirs is None:
                unknown.append(id_)
            elif self._is_ours(theirs):
                found.append(theirs)
            else:
                self.result.unusable += 1
        self._compare(found, unknown)

    def _asked(self, replication_id: str) -> ReplicationRecord | None:
        return self._walk.asked(self._client.get_transfer, replication_id)

    def _is_ours(self, theirs: ReplicationRecord) -> bool:
        return theirs.from_node == self._peer and theirs.to_node == self._walk.node

    # -- comparing -----------------------------------------------------------------------------------------------

    def _compare(self, theirs: Sequence[ReplicationRecord], unknown: Sequence[str]) -> None:
        ids = {**{one.replication_id: one for one in theirs}, **dict.fromkeys(unknown)}
        self._shown.update(ids)
        if not ids:
            return
        found = self._look(ids)
        if doubted := {one.id: one.step for one in found if one.needs_another_look}:
            again = {id_: self._asked(id_) for id_ in doubted}
            again = {id_: one for id_, one in again.items() if one is None or self._is_ours(one)}
            found = [one for one in found if one.id not in doubted]
            found += [one for one in self._look(again) if one.step is doubted[one.id]]
        with self._sessions.begin() as session:
            now = session.execute(select(self._clock.in_database())).scalar_one()
            events = [*self._take_over(session, found), *self._act(session, found, now)]
            record(session, events, agent=self._walk.agent, at=self._clock.now())
        self.result.compared += len(found)

    def _look(self, theirs: Mapping[str, ReplicationRecord | None]) -> list[_Found]:
        """Our side of these transfers, and what follows."""
        tasks = (Task.REPLICATION, Task.NOTICE)
        # What a peer calls a transfer of its own may be another peer's: only that one's items follow it.
        statement = select(WorkItem).where(
            WorkItem.task.in_(tasks), WorkItem.identifier.in_(theirs), WorkItem.remote_node == self._peer
        )
        with reading(self._sessions) as session:
            now = session.execute(select(self._clock.in_database())).scalar_one()
            ours = find_many(session, TRANSFERS, [(id_,) for id_ in theirs])
            items = {(item.task, item.identifier): item for item in session.scalars(statement)}
        return [
            self._found(
                id_,
                theirs[id_],
                ours.get((id_,)),
                items.get((Task.REPLICATION, id_)),
                items.get((Task.NOTICE, id_)),
                now,
            )
            for id_ in theirs
        ]

    @staticmethod
    def _found(
        id_: str,
        theirs: ReplicationRecord | None,
        ours: ReplicationRecord | None,
        item: WorkItem | None,
        notice: WorkItem | None,
        now: datetime,
    ) -> _Found:
        situation = Situation(AtOwner.of(theirs), here(item, now), receipt_of(item) is not None, here(notice, now))
        return _Found(id_, theirs, ours, item, decide(situation))

    # -- acting --------------------------------------------------------------------------------------------------

    def _take_over(self, session: Session, found: Sequence[_Found]) -> list[Event]:
        """Our registry says what the owner says, also where the owner has gone back behind what had ended here."""
        newer = [one.theirs for one in found if one.theirs is not None and one.theirs != one.ours]
        applied = apply_from_peer(session, self._peer, newer)
        self.result.updated += applied.added + applied.updated
        again = {one.id: one.theirs for one in found if one.theirs is not None and one.went_back}
        save(session, TRANSFERS, list(again.values()))
        self._walk.set_aside(session, [one for one in applied.refused if one.key[0] not in again])
        self.result.corrected += len(again)
        return [
            Event(
                EventType.RECORD_CORRECTED, id_, "open", {"why": f"it had ended here, at {self._peer} it is open"}
            )
            for id_ in again
        ]

    def _act(self, session: Session, found: Sequence[_Found], now: datetime) -> list[Event]:
        tokens = {
            one.item.id: one.item.lease_token
            for one in found
            if one.item is not None and one.step in (Step.REOPEN, Step.CLOSE)
        }
        free = lock_free(session, tokens, now)
        known = find_many(session, TRANSFERS, [(one.id,) for one in found if one.step is Step.MAKE])
        events = []
        for one in found:
            item = free.get(one.item.id) if one.item is not None else None
            match one.step:
                case Step.MAKE if (one.id,) in known:
                    self.result.items_missing += 1
                case Step.REOPEN if item is not None:
                    events.append(self._reopen(session, item))
                case Step.CLOSE if item is not None and one.theirs is not None:
                    outcome = ended_at_owner(item, one.theirs)
                    events.append(close(session, item, outcome, self._pipelines, self._clock))
                    self.result.closed += 1
                case Step.TELL if one.item is not None:
                    self._tell(session, one.item)
                case Step.REPORT_UNKNOWN | Step.REPORT_UNPROVEN | Step.REPORT_UNCOUNTED:
                    self.result.report(one.step.value.removeprefix("report: "), one.id)
        return events

    def _reopen(self, session: Session, item: WorkItem) -> Event:
        self.result.reopened += 1
        note = f"opened again: {self._peer} has the transfer open, and we have stored the bag"
        return reopen(session, item, STORE_STAGE, note, self._pipelines, self._clock)

    def _tell(self, session: Session, item: WorkItem) -> None:
        self.result.told += 1
        owe_notice(
            session,
            TransferCancellation(CancelReason.OTHER, item.note),
            task=Task.REPLICATION,
            transfer_id=item.identifier,
            peer=self._peer,
            item_id=item.id,
            pipelines=self._pipelines,
            clock=self._clock,
            again=True,
        )

    # -- what is ours --------------------------------------------------------------------------------------------

    def _count_ours(self) -> None:
        row = ReplicationTransfer
        is_open = (row.stored.is_(False), row.cancelled.is_(False))
        statement = select(func.count()).where(
            row.from_node == self._walk.node, row.to_node == self._peer, *is_open
        )
        with reading(self._sessions) as session:
            self.result.open_from_us = session.scalar(statement) or 0
