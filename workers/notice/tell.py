"""tell: informs the owner of a transfer that we gave it up, as often as it takes until the owner has heard."""

from __future__ import annotations

from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.registry.records import ReplicationRecord, RestoreRecord
from dpn.work.outcomes import Done, Fail, Outcome
from models.manifests import NoticeManifest
from workers.peers import Peer, Peers, Unwanted
from workers.stage import Job


@dataclass(frozen=True)
class TellStage:
    """See the module's docstring."""

    peers: Peers
    name: str = "tell"

    def run(self, job: Job[NoticeManifest]) -> Outcome:
        notice = job.manifest
        owner = self.peers.of(job.claim.remote_node)
        record: ReplicationRecord | RestoreRecord
        try:
            record = _transfer(owner, notice)
        except Unwanted:
            return Done(f"{owner.peer} no longer knows the transfer: nobody waits for the news")
        if isinstance(record, RestoreRecord) and record.finished:
            return Done(f"{owner.peer} has the bag: nobody waits for the news")
        if isinstance(record, ReplicationRecord) and record.stored:
            return Fail(
                f"{owner.peer} believes that we have stored the bag, but item {notice.caused_by_item} gave it up"
            )
        if not record.cancelled:
            job.fence()
            record = _cancel(owner, record, notice)
        if not record.cancelled:
            return Fail(f"{owner.peer} took the cancellation and did not cancel")
        job.add_event(
            EventType.PEER_INFORMED, record.bag, "success", peer=owner.peer, cancel_reason=record.cancel_reason
        )
        return Done(f"{owner.peer} knows that the transfer is over: {record.cancel_reason}")


def _transfer(owner: Peer, notice: NoticeManifest) -> ReplicationRecord | RestoreRecord:
    if notice.kind == "restore":
        return owner.restore(notice.replication_id)
    return owner.transfer(notice.replication_id)


def _cancel(
    owner: Peer, record: ReplicationRecord | RestoreRecord, notice: NoticeManifest
) -> ReplicationRecord | RestoreRecord:
    why = {
        "cancelled": True,
        "cancel_reason": notice.cancel_reason,
        "cancel_reason_detail": notice.cancel_reason_detail,
    }
    if isinstance(record, RestoreRecord):
        return owner.put_restore(record.change(**why))
    return owner.put(record.change(**why))
