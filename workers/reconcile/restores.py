"""The restores that one peer asks of us: lost ones are taken up, ended ones closed, and a requester that has
forgotten what we gave up or declined is told again."""

from __future__ import annotations

from datetime import datetime

from dpn.registry.catalogue import RESTORES
from dpn.registry.records import RestoreRecord
from dpn.registry.rules.flags import CancelReason
from dpn.registry.rules.restores import COURSE
from dpn.work.outcomes import Outcome
from models.work import Task, WorkItem
from workers.cancellations import TransferCancellation
from workers.reconcile.comparison import Comparison, Found, here
from workers.reconcile.peer_walk import PeerWalk
from workers.reconcile.rules import Action, AtOwner, decide_restore
from workers.restore.ending import ended_at_requester


class Restores(Comparison[RestoreRecord]):
    """See the module's docstring."""

    def __init__(self, walk: PeerWalk) -> None:
        client = walk.client
        super().__init__(walk, Task.RESTORE, RESTORES, COURSE, list_=client.list_restores, get=client.get_restore)

    def run(self) -> None:
        super().run()
        self.result.open_restores = self.count_open(self.walk.peer, self.walk.node)

    def decide(self, owner: AtOwner, item: WorkItem | None, notice: WorkItem | None, now: datetime) -> Action:
        return decide_restore(owner, here(item, now), here(notice, now))

    def outcome(self, item: WorkItem, theirs: RestoreRecord) -> Outcome:
        return ended_at_requester(item, theirs)

    def cancellation(self, found: Found[RestoreRecord]) -> TransferCancellation:
        """For the reason that it was told before; else because the item gave it up."""
        told = _what_was_told(found.notice)
        return told or TransferCancellation(CancelReason.OTHER, found.item.note if found.item is not None else "")


def _what_was_told(notice: WorkItem | None) -> TransferCancellation | None:
    manifest = notice.manifest if notice is not None and isinstance(notice.manifest, dict) else {}
    try:
        return TransferCancellation(CancelReason(manifest["cancel_reason"]), str(manifest["cancel_reason_detail"]))
    except (KeyError, ValueError):
        return None
