"""deliver: puts the bag where the node that asked for it fetches it, tells it where, and waits until it has it.

Where it lies is saved before it lies there. A requester that is away has time; one that does not come within
`restore.keep_offered_days` is told that the offer is over. What nobody needs is withdrawn before the item ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from dpn.audit.trail import EventType
from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import Misconfigured, ServiceUnavailable
from dpn.outbound.folder import Outbound
from dpn.outbound.settings import OutboundSettings, RestoreSettings
from dpn.outbound.withdrawal import OutboundCleanup
from dpn.registry.catalogue import apply_from_peer
from dpn.registry.records import RestoreRecord
from dpn.registry.rules.flags import CancelReason
from dpn.staging.staging import Staging
from dpn.work.outcomes import Done, Outcome, StartOver, Stopped, Wait
from models.manifests import RestoreManifest
from workers.cancellations import TransferCancellation
from workers.peers import Peer, Peers, Unwanted, require_wanted
from workers.stage import Job


@dataclass(frozen=True)
class DeliverStage:
    """See the module's docstring. `outbound` is for each staging volume."""

    peers: Peers
    sessions: Sessions
    staging: Staging
    outbound: Mapping[str, OutboundSettings]
    cleanup: OutboundCleanup
    settings: RestoreSettings
    clock: Clock
    poll_seconds: float
    name: str = "deliver"

    def run(self, job: Job[RestoreManifest]) -> Outcome:
        try:
            return self._progress(job)
        except Unwanted as unwanted:
            if not isinstance(unwanted.outcome, StartOver):
                self._withdraw(job)
            return unwanted.outcome

    def _progress(self, job: Job[RestoreManifest]) -> Outcome:
        manifest = job.manifest
        try:
            requester = self.peers.of(job.claim.remote_node)
            record = requester.restore(job.claim.identifier)
            if record.finished and record.link is not None and record.link == manifest.link:
                return self._fetched(job, record)
            require_wanted(record, manifest.transfer, manifest.link)
            self._require_time(job)
            self._offer(job, requester, record)
        except ServiceUnavailable as error:
            if not manifest.delivered:
                raise
            self._require_time(job)
            return self._wait(job, str(error))
        return self._wait(job, f"{requester.peer} has not fetched it yet")

    # -- offering ------------------------------------------------------------------------------------------------

    def _offer(self, job: Job[RestoreManifest], requester: Peer, record: RestoreRecord) -> None:
        """Makes sure that the bag lies where the link says, and that the requester has the link."""
        manifest = job.manifest
        self._put_out(job, is_told=record.link is not None)
        if not (record.accepted and record.link == manifest.link):
            job.fence()
            record = requester.put_restore(record.change(accepted=True, link=manifest.link))
            require_wanted(record, manifest.transfer, manifest.link)
        self._note_delivery(job, record)

    def _note_delivery(self, job: Job[RestoreManifest], record: RestoreRecord) -> None:
        manifest = job.manifest
        if manifest.delivered and manifest.delivered_at is not None:
            return
        manifest.delivered = True
        manifest.delivered_at = manifest.delivered_at or self.clock.now()
        job.add_event(
            EventType.DISSEMINATION,
            record.bag,
            "offered",
            to_node=record.to_node,
            restore=record.restore_id,
            link=manifest.link,
            sha256=manifest.copied.sha256,
        )
        job.save(f"{record.to_node} knows where to fetch it")

    def _put_out(self, job: Job[RestoreManifest], *, is_told: bool) -> None:
        """Puts the bag where the requester fetches it, unless it lies there. Raises Unwanted: it must be retrieved
        again, because it lies neither there nor on a staging volume."""
        manifest, node = job.manifest, job.manifest.transfer.to_node
        bag, staged = manifest.copied.bag, manifest.staged
        outbound = self._promised(manifest)
        if manifest.delivered and outbound is not None and outbound.offers(bag, node):
            return
        if staged is None or not self.staging.holds(staged):
            manifest.read_again()
            raise Unwanted(StartOver("restore-init", "the bag is neither staged nor offered"))
        if not manifest.judged or manifest.found is not None:
            raise Unwanted(StartOver("check", "the staged bag has not been found good"))
        if not is_told or outbound is None:
            outbound = self._outbound(staged.volume)
        elif not outbound.is_there and self._outbound(staged.volume).is_there:
            raise Unwanted(_stopped("the disk that it was offered on is lost: ask again"))
        if not is_told and manifest.link != outbound.link(node, bag):
            manifest.link = outbound.link(node, bag)
            job.save(f"offering it to {node}")
        job.fence()
        outbound.offer(self.staging.path_of(staged), bag, node, anew=True)

    def _promised(self, manifest: RestoreManifest) -> Outbound | None:
        """The outbound folder that the link leads to. Retrieved again, the bag may be on another volume than when
        the requester was told where."""
        bag, node = manifest.copied.bag, manifest.transfer.to_node
        every = map(Outbound, self.outbound.values())
        return next((one for one in every if one.link(node, bag) == manifest.link), None)

    def _outbound(self, volume: str) -> Outbound:
        try:
            return Outbound(self.outbound[volume])
        except KeyError:
            raise Misconfigured(
                f"there is no [ingest.outbound.{volume}] in the settings: nobody could fetch what is staged on "
                f"volume {volume}"
            ) from None

    # -- waiting and ending --------------------------------------------------------------------------------------

    @property
    def _patience(self) -> timedelta:
        return timedelta(days=self.settings.keep_offered_days)

    def _wait(self, job: Job[RestoreManifest], why: str) -> Wait:
        until = (job.manifest.delivered_at or self.clock.now()) + self._patience
        reason = f"offered until {until:%Y-%m-%d %H:%M} UTC: {why}"
        return Wait(self.poll_seconds, reason, patience_seconds=self._patience.total_seconds())

    def _require_time(self, job: Job[RestoreManifest]) -> None:
        """Raises Unwanted once the bag has been offered for long enough."""
        since = job.manifest.delivered_at
        if since is not None and self.clock.now() - since >= self._patience:
            reason = f"not fetched within {self.settings.keep_offered_days:g} days: ask again when it is wanted"
            raise Unwanted(_stopped(reason))

    def _fetched(self, job: Job[RestoreManifest], record: RestoreRecord) -> Outcome:
        self._note_delivery(job, record)  # a worker may have died before it could
        with self.sessions.begin() as session:  # so that whoever withdraws offers knows that this one is over
            apply_from_peer(session, record.to_node, [record])
        self._withdraw(job)
        job.add_event(
            EventType.DISSEMINATION, record.bag, "success", to_node=record.to_node, restore=record.restore_id
        )
        return Done(f"{record.to_node} has the bag")

    def _withdraw(self, job: Job[RestoreManifest]) -> None:
        """Takes the offer away, unless the node is to fetch the bag for another reason, too."""
        job.fence()
        facts = job.manifest.transfer
        self.cleanup.withdraw(facts.bag, facts.to_node, over=job.claim.identifier)


def _stopped(reason: str) -> Stopped:
    """Nobody is to blame; the requester hears why."""
    return Stopped(reason, TransferCancellation(CancelReason.OTHER, reason))
