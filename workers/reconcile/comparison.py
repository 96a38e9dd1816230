"""One kind of transfers between a peer and us, as their owner has them and as we do, held against each other.

Lists first; each open transfer that a list did not show is asked for by itself. What is to be done against what we
know is done only if the owner, asked once more, still says the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from dpn.audit.trail import Event, EventType, record
from dpn.database import reading
from dpn.registry.catalogue import Kind, apply_from_peer, find_many
from dpn.registry.catalogue.rows import save
from dpn.registry.client.batches import Rows, records_of
from dpn.registry.records import ReplicationRecord, RestoreRecord
from dpn.registry.rules.flags import Course
from dpn.work.outcomes import Outcome
from dpn.work.reconciliation import close, lock_free
from models.work import Status, Task, WorkItem
from workers.cancellations import TransferCancellation, notice_identifier, owe_notice
from workers.reconcile.peer_walk import PeerWalk
from workers.reconcile.rules import Action, AtOwner, Here

R = TypeVar("R", bound=ReplicationRecord | RestoreRecord)


@dataclass(frozen=True)
class Found(Generic[R]):
    """One transfer: as its owner has it, as we have it, what we told the owner, and what it makes us do."""

    id: str
    theirs: R | None
    ours: R | None
    item: WorkItem | None
    notice: WorkItem | None
    action: Action


class Comparison(ABC, Generic[R]):
    """See the module's docstring. What a kind of transfers has of its own is asked of the subclass."""

    def __init__(
        self,
        walk: PeerWalk,
        task: Task,
        kind: Kind[R],
        course: Course[R],
        list_: Callable[..., Iterator[Rows]],
        get: Callable[[str], R],
    ) -> None:
        self.walk = walk
        self.result = walk.result
        self._task = task
        self._kind = kind
        self._course = course
        self._list = list_
        self._get = get
        self._shown: set[str] = set()

    @abstractmethod
    def decide(self, owner: AtOwner, item: WorkItem | None, notice: WorkItem | None, now: datetime) -> Action:
        """What follows."""

    @abstractmethod
    def outcome(self, item: WorkItem, theirs: R) -> Outcome:
        """How an open item ends whose transfer has ended at its owner."""

    @abstractmethod
    def cancellation(self, found: Found[R]) -> TransferCancellation:
        """What the owner is told of a transfer that we gave up or declined."""

    def went_back(self, found: Found[R]) -> bool:
        """Whether it had ended here, and its owner, which is to be believed, calls the same transfer open."""
        return False

    def run(self) -> None:
        course = self._course
        between = {course.owner: self.walk.peer, course.writer: self.walk.node}
        for rows in self.walk.listed(self._list(**between, **{course.done: False, "cancelled": False})):
            self._compare([one for one in records_of(rows) if isinstance(one, self._kind.record)], ())
        for ids in chain(self._open_in_registry(), self._open_items()):
            self._ask_for([id_ for id_ in ids if id_ not in self._shown])

    def count_open(self, owner: str, writer: str) -> int:
        """How many our registry has of those of `owner` that `writer` is to see to, and calls open."""
        statement = select(func.count()).select_from(self._kind.table).where(*self._where_open(owner, writer))
        with reading(self.walk.sessions) as session:
            return session.scalar(statement) or 0

    # -- what there is -------------------------------------------------------------------------------------------

    def _where_open(self, owner: str, writer: str) -> tuple[ColumnElement[bool], ...]:
        course, columns = self._course, self._kind.table.c
        is_between = (columns[course.owner] == owner, columns[course.writer] == writer)
        return (*is_between, columns[course.done].is_(False), columns.cancelled.is_(False))

    def _open_in_registry(self) -> Iterator[list[str]]:
        (key,) = self._kind.key
        yield from self.walk.pages(key, *self._where_open(self.walk.peer, self.walk.node))

    def _open_items(self) -> Iterator[list[str]]:
        yield from self.walk.pages(
            WorkItem.identifier,
            WorkItem.task == self._task,
            WorkItem.remote_node == self.walk.peer,
            WorkItem.status.in_((Status.PENDING, Status.RUNNING)),
        )

    def _ask_for(self, ids: Sequence[str]) -> None:
        """Each by itself: that a list did not show them says nothing."""
        asked = {id_: self.walk.asked(self._get, id_) for id_ in ids}
        self._compare(
            [one for one in asked.values() if one is not None], [id_ for id_, one in asked.items() if one is None]
        )

    # -- comparing -----------------------------------------------------------------------------------------------

    def _compare(self, records: Sequence[R], unknown: Sequence[str]) -> None:
        theirs: dict[str, R | None] = {one.key[0]: one for one in records if self._is_between_us(one)}
        self.result.unusable += len(records) - len(theirs)
        theirs |= dict.fromkeys(unknown)
        self._shown.update(theirs)
        if not theirs:
            return
        found = self._look(theirs)
        if doubted := {one.id: one.action for one in found if self._needs_another_look(one)}:
            again = {id_: self.walk.asked(self._get, id_) for id_ in doubted}
            again = {id_: one for id_, one in again.items() if one is None or self._is_between_us(one)}
            found = [one for one in found if one.id not in doubted]
            found += [one for one in self._look(again) if one.action is doubted[one.id]]
        with self.walk.sessions.begin() as session:
            now = session.execute(select(self.walk.clock.in_database())).scalar_one()
            events = [*self._take_over(session, found), *self._act_on_all(session, found, now)]
            record(session, events, agent=self.walk.agent, at=self.walk.clock.now())
        self.result.compared += len(found)

    def _is_between_us(self, theirs: R) -> bool:
        course = self._course
        return (getattr(theirs, course.owner), getattr(theirs, course.writer)) == (self.walk.peer, self.walk.node)

    def _needs_another_look(self, found: Found[R]) -> bool:
        """Whether what is to be done contradicts what we know: the list may have been read too long ago."""
        return found.action in (Action.REOPEN, Action.TELL) or self.went_back(found)

    def _look(self, theirs: Mapping[str, R | None]) -> list[Found[R]]:
        """Our side of these transfers, and what follows."""
        notice_of = {id_: notice_identifier(self._task, id_) for id_ in theirs}
        with reading(self.walk.sessions) as session:
            now = session.execute(select(self.walk.clock.in_database())).scalar_one()
            ours = find_many(session, self._kind, [(id_,) for id_ in theirs])
            items = self._items(session, self._task, theirs)
            notices = self._items(session, Task.NOTICE, notice_of.values())
        found = []
        for id_, record_ in theirs.items():
            item, notice = items.get(id_), notices.get(notice_of[id_])
            action = self.decide(AtOwner.of(record_), item, notice, now)
            found.append(Found(id_, record_, ours.get((id_,)), item, notice, action))
        return found

    def _items(self, session: Session, task: Task, identifiers: Collection[str]) -> dict[str, WorkItem]:
        # What a peer calls a transfer of its own may be another peer's: only that one's items follow it.
        statement = select(WorkItem).where(
            WorkItem.task == task, WorkItem.identifier.in_(identifiers), WorkItem.remote_node == self.walk.peer
        )
        return {item.identifier: item for item in session.scalars(statement)}

    # -- acting --------------------------------------------------------------------------------------------------

    def _take_over(self, session: Session, found: Sequence[Found[R]]) -> list[Event]:
        """Our registry says what the owner says, also where the owner has gone back behind what had ended here."""
        newer = [one.theirs for one in found if one.theirs is not None and one.theirs != one.ours]
        applied = apply_from_peer(session, self.walk.peer, newer)
        self.result.updated += applied.added + applied.updated
        again = {one.id: one.theirs for one in found if one.theirs is not None and self.went_back(one)}
        save(session, self._kind, list(again.values()))
        self.walk.set_aside(session, [one for one in applied.refused if one.key[0] not in again])
        self.result.corrected += len(again)
        why = {"why": f"it had ended here, at {self.walk.peer} it is open"}
        return [Event(EventType.RECORD_CORRECTED, id_, "open", why) for id_ in again]

    def _act_on_all(self, session: Session, found: Sequence[Found[R]], now: datetime) -> list[Event]:
        tokens = {
            one.item.id: one.item.lease_token
            for one in found
            if one.item is not None and one.action in (Action.REOPEN, Action.CLOSE)
        }
        free = lock_free(session, tokens, now)
        missing = find_many(session, self._kind, [(one.id,) for one in found if one.action is Action.MAKE])
        self.result.items_missing += sum(not record_.is_final for record_ in missing.values())
        events = [self.act(session, one, free.get(one.item.id) if one.item is not None else None) for one in found]
        return [event for event in events if event is not None]

    def act(self, session: Session, found: Found[R], free: WorkItem | None) -> Event | None:
        """Does what follows. `free`: the item, locked, unless somebody holds it or it has changed."""
        match found.action:
            case Action.CLOSE if free is not None and found.theirs is not None:
                self.result.closed += 1
                outcome = self.outcome(free, found.theirs)
                return close(session, free, outcome, self.walk.pipelines, self.walk.clock)
            case Action.TELL:
                self._tell(session, found)
            case action if action.report is not None:
                self.result.report(action.report, found.id)
        return None

    def _tell(self, session: Session, found: Found[R]) -> None:
        self.result.told += 1
        owe_notice(
            session,
            self.cancellation(found),
            task=self._task,
            transfer_id=found.id,
            peer=self.walk.peer,
            item_id=None if found.item is None else found.item.id,
            pipelines=self.walk.pipelines,
            clock=self.walk.clock,
            again=True,
        )


def here(item: WorkItem | None, now: datetime) -> Here:
    """How our item stands."""
    return Here.NONE if item is None else Here.of(item.status, item.lease_expires_at, now)
