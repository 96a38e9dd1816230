"""tell: informs the owner of a transfer that we gave it up, as often as it takes until the owner has heard."""

from __future__ import annotations

from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.work.outcomes import Done, Fail, Outcome
from models.manifests import NoticeManifest
from workers.owners import Owners, Unwanted
from workers.stage import Job


@dataclass(frozen=True)
class TellStage:
    """See the module's docstring."""

    owners: Owners
    name: str = "tell"

    def run(self, job: Job[NoticeManifest]) -> Outcome:
        notice = job.manifest
        owner = self.owners.of(job.claim.remote_node)
        try:
            record = owner.transfer(notice.replication_id)
        except Unwanted:
            return Done(f"{owner.peer} no longer knows the transfer: nobody waits for the news")
        if record.stored:
            return Fail(
                f"{owner.peer} believes that we have stored the bag, but item {notice.caused_by_item} gave it up"
            )
        if not record.cancelled:
            job.fence()
            record = owner.put(
                record.change(
                    cancelled=True,
                    cancel_reason=notice.cancel_reason,
                    cancel_reason_detail=notice.cancel_reason_detail,
                )
            )
        if not record.cancelled:
            return Fail(f"{owner.peer} took the cancellation and did not cancel")
        job.add_event(
            EventType.PEER_INFORMED, record.bag, "success", peer=owner.peer, cancel_reason=record.cancel_reason
        )
        return Done(f"{owner.peer} knows that the transfer is over: {record.cancel_reason}")
