"""store: puts the validated bag into long-term storage, proves what the store holds, then tells the owner.

Nothing is stored that the owner did not ask to store. The receipt is durable before the owner is told, and the
owner has acknowledged before the staged copy may go.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.errors import ServiceUnavailable, StoreMismatch, StoreMissing, TransientError
from dpn.fixity.copies import Copies
from dpn.registry.records import ReplicationRecord
from dpn.registry.rules.flags import CancelReason
from dpn.staging.staging import Staging
from dpn.storage.store import Store
from dpn.work.breakers import Breakers
from dpn.work.outcomes import Done, Fail, Outcome, StartOver, Wait
from models.manifests import Receipt, ReplicationManifest, TransferFacts
from workers.bag_store import BagStore
from workers.cancellations import TransferCancellation
from workers.peers import Peer, Peers, Unwanted, require_live
from workers.stage import Job


@dataclass(frozen=True)
class StoreStage:
    """See the module's docstring."""

    peers: Peers
    staging: Staging
    store: Store
    breakers: Breakers
    verdict_poll_seconds: float
    copies: Copies | None = None
    """Where it is noted that we keep this bag, so that it is checked in time."""
    name: str = "store"

    def run(self, job: Job[ReplicationManifest]) -> Outcome:
        manifest = job.manifest
        facts = manifest.transfer
        if facts is None:
            return StartOver("copy", "the manifest does not say which transfer this is")
        owner = self.peers.of(job.claim.remote_node)
        try:
            record = owner.transfer(job.claim.identifier)
            if manifest.receipt is None:
                refused = self._not_yet(job, owner, record)
                if refused is not None:
                    return refused
                manifest.receipt = self._store(job, facts, owner)
                job.save("stored and proven; telling " + owner.peer)
            self._remember(job, facts, manifest.receipt)
            return self._tell_stored(job, facts, owner, manifest.receipt)
        except Unwanted as unwanted:
            return unwanted.outcome
        except TransientError as error:
            if manifest.receipt is None:
                raise
            # The copy is there: attempts must not run out over telling of it, and cancel what is stored.
            return Wait(self.verdict_poll_seconds, str(error), needs_attention=True)

    def _not_yet(self, job: Job[ReplicationManifest], owner: Peer, record: ReplicationRecord) -> Outcome | None:
        """Why the bag may not be stored now; None if it may."""
        manifest = job.manifest
        require_live(record, manifest.transfer)
        staged, judged = manifest.staged, manifest.validation
        if staged is None or not self.staging.holds(staged):
            manifest.forget_staged()
            return StartOver("copy", "the staged bag is gone")
        if judged is None or not judged.valid:
            return StartOver("validate", "the staged bag has not been found valid")
        if not record.store_requested or record.fixity_value is None:
            return Wait(self.verdict_poll_seconds, f"{owner.peer} has not asked us to store")
        if record.fixity_value.lower() != judged.tag_manifest_sha256:
            reason = (
                f"{owner.peer} confirmed fixity {record.fixity_value}, the bag has {judged.tag_manifest_sha256}"
            )
            return Fail(reason, TransferCancellation(CancelReason.OTHER, reason))
        return None

    def _store(self, job: Job[ReplicationManifest], facts: TransferFacts, owner: Peer) -> Receipt:
        def still_wanted() -> None:
            """Asked right before the copy becomes visible: our lease, and whether the owner still wants it."""
            job.fence()
            with suppress(ServiceUnavailable):  # an owner that is away has not cancelled
                require_live(owner.transfer(facts.replication_id), facts)

        bag_store = BagStore(self.staging, self.store, self.breakers, self.verdict_poll_seconds)
        return bag_store.put(job, facts.bag, metadata=_metadata(facts), fence=still_wanted, staged_by="copy")

    def _remember(self, job: Job[ReplicationManifest], facts: TransferFacts, receipt: Receipt) -> None:
        """Before anybody is told, and whatever the owner says then: what is in the store is ours to check."""
        judged = job.manifest.validation
        if self.copies is not None and judged is not None:
            self.copies.remember(
                receipt,
                bag=facts.bag,
                tag_manifest_sha256=judged.tag_manifest_sha256,
                item_id=job.claim.item_id,
            )

    def _tell_stored(
        self, job: Job[ReplicationManifest], facts: TransferFacts, owner: Peer, receipt: Receipt
    ) -> Outcome:
        record = owner.transfer(facts.replication_id)
        if not record.stored:
            if record.cancelled:
                return _cancelled_too_late(owner, receipt)
            if job.manifest.stored_acknowledged:
                receipt = self._prove_again(job, owner, receipt)
            record = self._remind_of_fixity(job, owner, record)
            if record.cancelled:
                return _cancelled_too_late(owner, receipt)
            job.fence()
            record = owner.put(record.change(stored=True))
        if not record.stored:
            return Wait(self.verdict_poll_seconds, f"{owner.peer} did not take note that the bag is stored", True)
        job.manifest.stored_acknowledged = True
        job.add_event(EventType.PEER_INFORMED, facts.bag, "success", peer=owner.peer, stored=True)
        return Done(f"stored at {receipt.url}; {owner.peer} knows")

    def _prove_again(self, job: Job[ReplicationManifest], owner: Peer, receipt: Receipt) -> Receipt:
        """The owner knew of this copy and has forgotten it: it is told again of a copy that is there now.

        Raises Unwanted: a copy that is gone or damaged is made anew.
        """
        try:
            with self.breakers.guard(f"store:{self.store.name}"):
                job.manifest.receipt = self.store.confirm(receipt, cancellation=job.cancellation)
        except (StoreMissing, StoreMismatch) as error:
            job.manifest.receipt, job.manifest.stored_acknowledged = None, False
            reason = f"{owner.peer} asks again for what we had stored, and our copy is not as it was: {error}"
            raise Unwanted(StartOver("copy", reason)) from error
        job.manifest.stored_acknowledged = False
        job.save(f"our copy is proven again; telling {owner.peer}")
        return job.manifest.receipt

    def _remind_of_fixity(
        self, job: Job[ReplicationManifest], owner: Peer, record: ReplicationRecord
    ) -> ReplicationRecord:
        """An owner that was restored from a backup may have forgotten that, too, and takes no copy without it."""
        if record.fixity_value is not None or job.manifest.fixity_sent is None:
            return record
        job.fence()
        return owner.put(record.change(fixity_value=job.manifest.fixity_sent))


def _cancelled_too_late(owner: Peer, receipt: Receipt) -> Outcome:
    return Fail(
        f"{owner.peer} cancelled the transfer after we had stored the bag: the copy stays at {receipt.url}"
    )


def _metadata(facts: TransferFacts) -> dict[str, str]:
    return {
        "from_node": facts.from_node,
        "transfer_id": facts.replication_id,
        "member": facts.member,
        "local_id": facts.local_id,
        "version": str(facts.version),
    }
