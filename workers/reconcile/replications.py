"""The replications that one peer asks of us: lost ones are taken up, ended ones closed, forgotten ones told again.

What had ended here begins anew only after its owner, asked once more, still calls it open.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from dpn.audit.trail import Event
from dpn.registry.catalogue import TRANSFERS
from dpn.registry.records import ReplicationRecord
from dpn.registry.rules.decisions import read_only_changes
from dpn.registry.rules.flags import CancelReason
from dpn.registry.rules.transfers import COURSE
from dpn.work.outcomes import Outcome
from dpn.work.reconciliation import reopen
from models.work import Task, WorkItem
from workers.cancellations import TransferCancellation
from workers.reconcile.comparison import Comparison, Found, here
from workers.reconcile.peer_walk import PeerWalk
from workers.reconcile.rules import Action, AtOwner, Situation, decide
from workers.replication.ending import ended_at_owner, receipt_of

STORE_STAGE = "store"
"""Where an item goes that has its receipt and must tell of it."""


class Replications(Comparison[ReplicationRecord]):
    """See the module's docstring."""

    def __init__(self, walk: PeerWalk) -> None:
        client = walk.client
        super().__init__(
            walk, Task.REPLICATION, TRANSFERS, COURSE, list_=client.list_transfers, get=client.get_transfer
        )

    def run(self) -> None:
        self.result.open_from_us = self.count_open(self.walk.node, self.walk.peer)
        super().run()

    def decide(self, owner: AtOwner, item: WorkItem | None, notice: WorkItem | None, now: datetime) -> Action:
        return decide(Situation(owner, here(item, now), receipt_of(item) is not None, here(notice, now)))

    def went_back(self, found: Found[ReplicationRecord]) -> bool:
        ours, theirs = found.ours, found.theirs
        if ours is None or theirs is None or theirs.is_final or not ours.is_final:
            return False
        return not read_only_changes(ours, theirs, COURSE.identity)

    def outcome(self, item: WorkItem, theirs: ReplicationRecord) -> Outcome:
        return ended_at_owner(item, theirs)

    def cancellation(self, found: Found[ReplicationRecord]) -> TransferCancellation:
        return TransferCancellation(CancelReason.OTHER, found.item.note if found.item is not None else "")

    def act(self, session: Session, found: Found[ReplicationRecord], free: WorkItem | None) -> Event | None:
        if found.action is not Action.REOPEN or free is None:
            return super().act(session, found, free)
        self.result.reopened += 1
        note = f"opened again: {self.walk.peer} has the transfer open, and we have stored the bag"
        return reopen(session, free, STORE_STAGE, note, self.walk.pipelines, self.walk.clock)
