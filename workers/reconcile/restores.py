"""The restores that one peer asks of us, as it has them and as we do: what was lost is taken up, what has ended is
closed, what we gave up is told again to a requester that has forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, record
from dpn.database import reading
from dpn.registry.catalogue import RESTORES, apply_from_peer, find_many
from dpn.registry.client.batches import records_of
from dpn.registry.records import RestoreRecord
from dpn.registry.rules.flags import CancelReason
from dpn.work.reconciling import close, lock_free
from models.registry import RestoreTransfer
from models.work import Status, Task, WorkItem
from workers.cancellations import TransferCancellation, notice_identifier, owe_notice
from workers.reconcile.peer_walk import Walk, here
from workers.reconcile.rules import AtOwner, Step, decide_restore
from workers.restore.ending import ended_at_requester


@dataclass(frozen=True)
class _Found:
    """One restore: as its requester has it, our item of it, what we told about it, and what follows."""

    id: str
    theirs: RestoreRecord | None
    item: WorkItem | None
    notice: WorkItem | None
    step: Step


class RestoresWithPeer:
    """See the module's docstring."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._result = walk.result
        self._shown: set[str] = set()

    def run(self) -> None:
        walk, row = self._walk, RestoreTransfer
        pages = walk.client.list_restores(to_node=walk.peer, from_node=walk.node, finished=False, cancelled=False)
        for rows in walk.listed(pages):
            self._compare([one for one in records_of(rows) if isinstance(one, RestoreRecord)], [])
        is_open = (
            row.to_node == walk.peer,
            row.from_node == walk.node,
            row.finished.is_(False),
            row.cancelled.is_(False),
        )
        is_open_item = (
            WorkItem.task == Task.RESTORE,
            WorkItem.remote_node == walk.peer,
            WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
        )
        for ids in chain(walk.pages(row.restore_id, *is_open), walk.pages(WorkItem.identifier, *is_open_item)):
            self._ask_for([id_ for id_ in ids if id_ not in self._shown])
        with reading(walk.sessions) as session:
            self._result.open_restores = session.scalar(select(func.count()).where(*is_open)) or 0

    def _ask_for(self, ids: Sequence[str]) -> None:
        found, unknown = [], []
        for id_ in ids:
            theirs = self._walk.asked(self._walk.client.get_restore, id_)
            if theirs is None:
                unknown.append(id_)
            else:
                found.append(theirs)
        self._compare(found, unknown)

    # -- comparing -----------------------------------------------------------------------------------------------

    def _compare(self, records: Sequence[RestoreRecord], unknown: Sequence[str]) -> None:
        theirs = {one.restore_id: one for one in records if self._is_asked_of_us(one)}
        self._result.unusable += len(records) - len(theirs)
        ids: dict[str, RestoreRecord | None] = {**theirs, **dict.fromkeys(unknown)}
        self._shown.update(ids)
        if not ids:
            return
        found = self._look(ids)
        if doubted := {one.id for one in found if one.step is Step.TELL}:
            # The list may have been read before our telling arrived.
            again = {id_: self._walk.asked(self._walk.client.get_restore, id_) for id_ in doubted}
            found = [one for one in found if one.id not in doubted]
            found += [one for one in self._look(again) if one.step is Step.TELL]
        with self._walk.sessions.begin() as session:
            self._adopt(session, list(theirs.values()))
            record(session, self._act(session, found), agent=self._walk.agent, at=self._walk.clock.now())
        self._result.compared += len(theirs)

    def _is_asked_of_us(self, theirs: RestoreRecord) -> bool:
        return theirs.to_node == self._walk.peer and theirs.from_node == self._walk.node

    def _look(self, theirs: Mapping[str, RestoreRecord | None]) -> list[_Found]:
        """Our side of these restores, and what follows."""
        notices = {notice_identifier(Task.RESTORE, id_): id_ for id_ in theirs}
        statement = select(WorkItem).where(WorkItem.remote_node == self._walk.peer)
        with reading(self._walk.sessions) as session:
            now = session.execute(select(self._walk.clock.in_database())).scalar_one()
            told = session.scalars(
                statement.where(WorkItem.task == Task.NOTICE, WorkItem.identifier.in_(notices))
            ).all()
            made = session.scalars(
                statement.where(WorkItem.task == Task.RESTORE, WorkItem.identifier.in_(theirs))
            ).all()
        items = {item.identifier: item for item in made}
        notice_of = {notices[notice.identifier]: notice for notice in told}
        return [
            _Found(
                id_,
                record_,
                items.get(id_),
                notice_of.get(id_),
                decide_restore(AtOwner.of(record_), here(items.get(id_), now), here(notice_of.get(id_), now)),
            )
            for id_, record_ in theirs.items()
        ]

    # -- acting --------------------------------------------------------------------------------------------------

    def _adopt(self, session: Session, records: Sequence[RestoreRecord]) -> None:
        applied = apply_from_peer(session, self._walk.peer, records)
        self._walk.set_aside(session, applied.refused)
        self._result.updated += applied.added + applied.updated

    def _act(self, session: Session, found: Sequence[_Found]) -> list[Event]:
        now = session.execute(select(self._walk.clock.in_database())).scalar_one()
        tokens = {
            one.item.id: one.item.lease_token for one in found if one.item is not None and one.step is Step.CLOSE
        }
        free = lock_free(session, tokens, now)
        known = find_many(session, RESTORES, [(one.id,) for one in found if one.step is Step.MAKE])
        self._result.items_missing += sum(not record_.is_final for record_ in known.values())
        events = []
        for one in found:
            item = free.get(one.item.id) if one.item is not None else None
            match one.step:
                case Step.CLOSE if item is not None and one.theirs is not None:
                    outcome = ended_at_requester(item, one.theirs)
                    events.append(close(session, item, outcome, self._walk.pipelines, self._walk.clock))
                    self._result.closed += 1
                case Step.TELL:
                    self._tell(session, one)
                case Step.REPORT_RESTORE_UNKNOWN | Step.REPORT_RESTORE_FORGOTTEN:
                    self._result.report(one.step.value.removeprefix("report: "), one.id)
        return events

    def _tell(self, session: Session, one: _Found) -> None:
        """That we gave it up, for the reason that we had; or that we declined it, for that one."""
        self._result.told += 1
        cancellation = _what_was_told(one.notice)
        if cancellation is None:
            cancellation = TransferCancellation(CancelReason.OTHER, one.item.note if one.item is not None else "")
        owe_notice(
            session,
            cancellation,
            task=Task.RESTORE,
            transfer_id=one.id,
            peer=self._walk.peer,
            item_id=None if one.item is None else one.item.id,
            pipelines=self._walk.pipelines,
            clock=self._walk.clock,
            again=True,
        )


def _what_was_told(notice: WorkItem | None) -> TransferCancellation | None:
    manifest = notice.manifest if notice is not None and isinstance(notice.manifest, dict) else {}
    try:
        return TransferCancellation(CancelReason(manifest["cancel_reason"]), str(manifest["cancel_reason_detail"]))
    except (KeyError, ValueError):
        return None
