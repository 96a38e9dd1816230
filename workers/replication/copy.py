"""copy: fetches the bag's tar from its owner, tells the owner its tag manifest's digest, and obeys the verdict.

Whatever dies in between: bytes that were copied are not sent again, and the digest is taken anew from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpn.audit.trail import EventType
from dpn.bags.identity import tag_manifest_sha256
from dpn.errors import LinkRefused, NotABag, ServiceUnavailable
from dpn.registry.records import FIXITY_ALGORITHM, PROTOCOL, ReplicationRecord
from dpn.registry.rules.flags import CancelReason
from dpn.settings import PeerSettings
from dpn.staging.staging import Staging
from dpn.transfer.errors import SourceTooLarge
from dpn.transfer.link import RemoteFile, parse_link
from dpn.transfer.rsync import AskSize, FetchFile, ask_size, fetch
from dpn.transfer.settings import RsyncSource, TransferSettings
from dpn.work.breakers import Breakers
from dpn.work.outcomes import Done, Fail, Outcome, Retry, Wait
from models.manifests import ReplicationManifest, StagedFile, TransferFacts
from workers.cancellations import TransferCancellation
from workers.peers import Peer, Peers, Unwanted, require_live
from workers.stage import Job

SIZE_SLACK_BYTES = 1024**3
"""How much larger than its record a bag may be where `transfer.size_mismatch` is `warn`."""

ASK_FIRST_BYTES = 64 * 1024**2
"""For a bag of this size or more its sender is asked whether it has such a file before room is kept for it. To
fetch a smaller one takes hardly longer than to ask."""


@dataclass(frozen=True)
class CopyStage:
    """See the module's docstring."""

    node: str
    peers: Peers
    peer_settings: Mapping[str, PeerSettings]
    staging: Staging
    settings: TransferSettings
    breakers: Breakers
    verdict_poll_seconds: float
    fetch: FetchFile = fetch
    ask_size: AskSize = ask_size
    name: str = "copy"

    def run(self, job: Job[ReplicationManifest]) -> Outcome:
        owner = self.peers.of(job.claim.remote_node)
        try:
            record = owner.transfer(job.claim.identifier)
            require_live(record, job.manifest.transfer)
            facts = job.manifest.transfer or self._accept(record, owner, job)
            if record.stored:
                return _already_stored(job)
            staged = self._staged(job) or self._fetch(job, facts)
            return self._send_fixity(job, owner, record, staged)
        except Unwanted as unwanted:
            return unwanted.outcome
        except ServiceUnavailable:
            if job.staging_volume is not None:  # others shall not wait with it
                job.fence()
                self.staging.keep_what_came(job.claim.item_id, job.staging_volume)
            raise

    # -- accepting -----------------------------------------------------------------------------------------------

    def _accept(self, record: ReplicationRecord, owner: Peer, job: Job[ReplicationManifest]) -> TransferFacts:
        """Pins what the transfer and its bag say now. Raises Unwanted for what we do not take."""
        for wrong, text in (
            (record.from_node != owner.peer, f"it is {record.from_node}'s, not {owner.peer}'s"),
            (record.to_node != self.node, f"it is addressed to {record.to_node}, we are {self.node}"),
            (record.from_node == record.to_node, "it asks a node to replicate from itself"),
            (record.protocol != PROTOCOL, f"protocol {record.protocol!r}: we only speak {PROTOCOL}"),
            (
                record.fixity_algorithm != FIXITY_ALGORITHM,
                f"fixity {record.fixity_algorithm!r}: we only use {FIXITY_ALGORITHM}",
            ),
            (record.fixity_nonce is not None, "it has a fixity nonce, which no two nodes agree how to use"),
        ):
            if wrong:
                raise _rejected(f"the transfer is refused: {text}")
        bag = owner.bag(record.bag)
        digest = owner.digest(record.bag, FIXITY_ALGORITHM)
        job.manifest.transfer = TransferFacts(
            replication_id=record.replication_id,
            from_node=record.from_node,
            to_node=record.to_node,
            bag=record.bag,
            link=record.link,
            fixity_algorithm=record.fixity_algorithm,
            size=bag.size,
            local_id=bag.local_id,
            member=bag.member,
            version=bag.version,
            bag_type=bag.bag_type,
            registry_fixity=digest.value if digest else None,
        )
        job.save(f"accepted from {owner.peer}: bag {bag.uuid}, {bag.size} bytes")
        return job.manifest.transfer

    # -- copying -------------------------------------------------------------------------------------------------

    def _staged(self, job: Job[ReplicationManifest]) -> StagedFile | None:
        """What an earlier run has staged already, if it is still there whole."""
        staged = job.manifest.staged
        if staged is None or not self.staging.holds(staged):
            return None
        return staged

    def _fetch(self, job: Job[ReplicationManifest], facts: TransferFacts) -> StagedFile:
        source = self.peer_settings[facts.from_node].rsync
        try:
            remote = parse_link(facts.link, source, bag=facts.bag)
        except LinkRefused as error:
            raise _rejected(str(error)) from error
        try:
            with self.breakers.guard(f"rsync:{facts.from_node}"):
                return self._receive(job, facts, remote, source)
        except SourceTooLarge as error:
            raise Unwanted(self._not_as_recorded(job, str(error))) from error

    def _receive(
        self, job: Job[ReplicationManifest], facts: TransferFacts, remote: RemoteFile, source: RsyncSource
    ) -> StagedFile:
        item, service = job.claim.item_id, f"rsync:{facts.from_node}"
        max_bytes = facts.size + (SIZE_SLACK_BYTES if self.settings.size_mismatch == "warn" else 0)
        if facts.size >= ASK_FIRST_BYTES:
            size = self.ask_size(
                remote,
                service=service,
                settings=self.settings,
                source=source,
                max_bytes=max_bytes,
                cancellation=job.cancellation,
            )
            self._require_size(job, size, facts)
        volume = self.staging.reserve_room(item, max_bytes, token=job.claim.token, begun_on=job.staging_volume)
        job.staging_volume = volume
        job.save(f"copying {facts.size} bytes from {facts.from_node} to volume {volume}")
        with self.staging.folder(volume, item, job.claim.token) as folder:
            partial = folder.path / f"{facts.bag}.tar"
            job.progress.begin(f"copying {facts.bag} from {facts.from_node}", bytes_total=facts.size)
            fetched = self.fetch(
                remote,
                partial,
                service=service,
                settings=self.settings,
                source=source,
                max_bytes=max_bytes,
                cancellation=job.cancellation,
                progress=job.progress.reach,
                keep_open=folder.keep_open,
            )
            self._require_size(job, fetched.bytes, facts)
            job.manifest.staged = StagedFile(
                volume=volume,
                path=str(self.staging.relative(volume, partial)),
                size=fetched.bytes,
                tag_manifest_sha256=self._digest(job, partial, facts),
            )
        job.add_event(EventType.TRANSFER, facts.bag, "success", source=facts.from_node, bytes=fetched.bytes)
        job.add_event(
            EventType.MESSAGE_DIGEST_CALCULATION,
            facts.bag,
            "success",
            algorithm=FIXITY_ALGORITHM,
            of="tag manifest",
            value=job.manifest.staged.tag_manifest_sha256,
        )
        job.save(f"copied {fetched.bytes} bytes ({fetched.sent_bytes} over the wire)")
        return job.manifest.staged

    def _require_size(self, job: Job[ReplicationManifest], size: int, facts: TransferFacts) -> None:
        if size == facts.size:
            return
        text = f"the bag has {size} bytes, its record says {facts.size}"
        if self.settings.size_mismatch == "reject":
            raise Unwanted(self._not_as_recorded(job, text))
        job.log.warning("size differs from the registry", bag=facts.bag, text=text)

    def _not_as_recorded(self, job: Job[ReplicationManifest], text: str) -> Retry | Fail:
        """The owner may still be writing the file: fetched a few times before the bag is refused."""
        job.manifest.not_as_recorded += 1
        if job.manifest.not_as_recorded < self.settings.size_mismatch_attempts:
            return Retry(f"{text}: perhaps its owner is still writing it")
        return Fail(text, TransferCancellation(CancelReason.BAG_INVALID, text))

    def _digest(self, job: Job[ReplicationManifest], tar: Path, facts: TransferFacts) -> str:
        """The tag manifest's digest. One that is not the owner's is fetched again before it is sent: the owner
        refuses a wrong one for good."""
        try:
            digest = tag_manifest_sha256(tar, facts.bag)
        except NotABag as error:
            reason = f"what was copied is not the bag: {error}"
            raise Unwanted(self._not_as_recorded(job, reason)) from error
        if facts.registry_fixity not in (None, digest):
            reason = f"the bag's tag manifest has digest {digest}, its owner's record says {facts.registry_fixity}"
            outcome = self._not_as_recorded(job, reason)
            if isinstance(outcome, Retry):
                raise Unwanted(outcome)
        return digest

    # -- the owner's verdict -------------------------------------------------------------------------------------

    def _send_fixity(
        self, job: Job[ReplicationManifest], owner: Peer, record: ReplicationRecord, staged: StagedFile
    ) -> Outcome:
        if record.fixity_value is None:
            job.fence()
            record = owner.put(record.change(fixity_value=staged.tag_manifest_sha256))
        if record.fixity_value is not None and record.fixity_value.lower() != staged.tag_manifest_sha256:
            reason = (
                f"we sent fixity {record.fixity_value} before, the bag copied now has {staged.tag_manifest_sha256}"
            )
            return Fail(reason, TransferCancellation(CancelReason.OTHER, reason))
        require_live(record, job.manifest.transfer)
        job.manifest.fixity_sent = record.fixity_value
        if not record.store_requested or record.fixity_value is None:
            return Wait(
                self.verdict_poll_seconds, f"{owner.peer} has our fixity and has not yet asked us to store"
            )
        return Done(f"copied from {owner.peer}; it confirmed the fixity and asks us to store")


def _already_stored(job: Job[ReplicationManifest]) -> Outcome:
    if job.manifest.receipt is not None:
        return Done("already stored, and its owner knows", ends_item=True)
    return Fail("its owner believes that we have stored it, but we have no receipt: check the store for it")


def _rejected(reason: str) -> Unwanted:
    return Unwanted(Fail(reason, TransferCancellation(CancelReason.REJECT, reason)))
