"""The way of our copy to a node that asks for it, as far as it is that of a fixity check: what a restore adds.

A bag goes to its owner, its ingest node and the nodes that are known to hold it; others wait for a person's yes.
A node learns at once that it will get the bag: it may take days to come back from cold storage. What is handed on
was read whole and found good; that counts as a check of ours. A copy that a repair has put there meanwhile is the
one that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from dpn.audit.trail import EventType
from dpn.database import Sessions, reading
from dpn.errors import Misconfigured, ServiceUnavailable
from dpn.fixity.begin import copy_facts
from dpn.outbound.folder import Outbound
from dpn.outbound.settings import OutboundSettings
from dpn.recovery.holders import holders_of
from dpn.registry.catalogue import BAGS, find
from dpn.registry.records import RestoreRecord
from dpn.registry.rules.flags import CancelReason
from dpn.runtime import THREADS
from dpn.work.outcomes import Fail, Outcome, StartOver, Stopped, Wait
from models.manifests import CopyFacts, RestoreManifest
from models.preservation import StoredCopy
from workers.cancellations import TransferCancellation
from workers.peers import Peers, Unwanted, require_wanted
from workers.stage import Job, Stage

NOT_GOOD = "our copy of this bag did not pass its fixity check: ask another node"


@dataclass(frozen=True)
class AcceptingStage:
    """restore-init: tells the requester that it will get the bag, then does what `reading` does."""

    peers: Peers
    reading: Stage
    outbound: Mapping[str, OutboundSettings]
    exclude: Mapping[str, Collection[str]]
    """The nodes that get no bag of a member, whatever else holds, by member."""
    sessions: Sessions
    poll_seconds: float
    name: str = "restore-init"

    def run(self, job: Job[RestoreManifest]) -> Outcome:
        try:
            self._accept(job)
        except Unwanted as unwanted:
            return unwanted.outcome
        except ServiceUnavailable:
            if not job.manifest.accepted:
                raise
            # What is being restored from cold storage stays readable for some days only: it does not wait.
        _turn_to(job.manifest, _copy_by_now(self.sessions, job.manifest))
        return self.reading.run(job)

    def _accept(self, job: Job[RestoreManifest]) -> None:
        manifest = job.manifest
        if not self.outbound:  # before anything is promised, or asked for at a price
            raise Misconfigured(
                "there is no [ingest.outbound.VOLUME] in the settings: nobody could fetch what we hand back"
            )
        requester = self.peers.of(job.claim.remote_node)
        record = requester.restore(job.claim.identifier)
        recognise_link(manifest, record, self.outbound)
        require_wanted(record, manifest.transfer, manifest.link)
        self._require_right(job)
        if not record.accepted:
            job.fence()
            record = requester.put_restore(record.change(accepted=True))
            require_wanted(record, manifest.transfer, manifest.link)
        if not manifest.accepted:
            manifest.accepted = True
            job.add_event(
                EventType.PEER_INFORMED, record.bag, "success", peer=requester.peer, restore=record.key[0]
            )
            job.save(f"{requester.peer} knows that it will get the bag")

    def _require_right(self, job: Job[RestoreManifest]) -> None:
        """Raises Unwanted unless the node may have the bag: whoever can name a bag could ask for it."""
        node, item = job.manifest.transfer.to_node, job.claim.item_id
        with reading(self.sessions) as session:
            bag = find(session, BAGS, job.manifest.transfer.bag)
        if bag is not None and node in self.exclude.get(bag.member, ()):
            reason = "we do not hand bags of this member to this node"
            raise Unwanted(Stopped(reason, TransferCancellation(CancelReason.REJECT, reason)))
        if job.manifest.allowed_by is None and (bag is None or node not in holders_of(bag)):
            reason = (
                f"{node} neither owns this bag nor ingested it, nor is it known to hold a copy: "
                f"`dpn restore allow {item}` if it shall have it, else `dpn item cancel {item}`"
            )
            raise Unwanted(Wait(self.poll_seconds, reason, needs_attention=True))


@dataclass(frozen=True)
class JudgingStage:
    """check: judges our copy as `reading` does; a bad one is not handed on, and the requester hears of it."""

    reading: Stage
    sessions: Sessions
    new_id: Callable[[], str] = THREADS.new_id
    name: str = "check"

    def run(self, job: Job[RestoreManifest]) -> Outcome:
        if _copy_by_now(self.sessions, job.manifest) != job.manifest.copied:
            return StartOver(
                "restore-init", "our copy was replaced since: what came of the one before is not judged"
            )
        if job.manifest.check_id is None:
            job.manifest.check_id = self.new_id()
        outcome = self.reading.run(job)
        if isinstance(outcome, Fail) and outcome.follow_up is None:
            return replace(outcome, follow_up=TransferCancellation(CancelReason.OTHER, NOT_GOOD))
        return outcome


def _copy_by_now(sessions: Sessions, manifest: RestoreManifest) -> CopyFacts:
    """The copy of ours that is to be read. A verdict stays that on the copy that it was taken from."""
    if manifest.judged:
        return manifest.copied
    with reading(sessions) as session:
        copy = session.get(StoredCopy, manifest.copied.bag)
        return manifest.copied if copy is None else copy_facts(copy)


def _turn_to(manifest: RestoreManifest, copied: CopyFacts) -> None:
    """Has this copy read; what is known of the one before, or was asked of its store, is not of this one."""
    if copied == manifest.copied:
        return
    manifest.copied = copied
    manifest.found = manifest.restore = manifest.readable_until = manifest.began_at = None
    manifest.forget_staged()


def recognise_link(
    manifest: RestoreManifest, record: RestoreRecord, outbound: Mapping[str, OutboundSettings]
) -> None:
    """Takes up the link that an item before this one gave the requester, where it is one of ours: our items may
    have been lost. Any other link is the requester's own invention."""
    if manifest.link is None and record.link is not None:
        facts = manifest.transfer
        ours = {Outbound(one).link(facts.to_node, facts.bag) for one in outbound.values()}
        manifest.link = record.link if record.link in ours else None
