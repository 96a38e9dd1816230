"""fetch: copies the bag from the node that offers it to a staging volume; what came before stays, whatever dies.

A link that is refused, and a file that is too large or never comes whole, is that node's end: the next one is
asked. A node that is away is waited for, up to `recovery.answer_days`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.errors import LinkRefused, ServiceUnavailable, TransientError
from dpn.recovery.arrival import SIZE_SLACK_BYTES, receive, repacked_size
from dpn.registry.records import RestoreRecord
from dpn.settings import PeerSettings
from dpn.staging.staging import Staging
from dpn.transfer.errors import SourceTooLarge
from dpn.transfer.settings import TransferSettings
from dpn.work.breakers import Breakers
from dpn.work.outcomes import Done, Outcome, StartOver
from models.manifests import AskedNode, RecoveryManifest, StagedFile
from workers.recovery.requests import Requests
from workers.stage import Job

TRIES = 3
"""How often a file that does not come whole is tried before another node is asked."""


@dataclass(frozen=True)
class FetchStage:
    """See the module's docstring."""

    requests: Requests
    peer_settings: Mapping[str, PeerSettings]
    staging: Staging
    transfer: TransferSettings
    breakers: Breakers
    name: str = "fetch"

    def run(self, job: Job[RecoveryManifest]) -> Outcome:
        manifest, asked = job.manifest, job.manifest.asking
        if asked is None:
            return StartOver("ask", "nobody is asked")
        if manifest.staged is not None and self.staging.holds(manifest.staged):
            return Done("fetched already")
        manifest.forget_staged()
        record = self.requests.record(asked)
        if record is None or record.link is None or record.is_final:
            return StartOver("ask", f"{asked.node} offers the bag no more")
        peer = self.peer_settings.get(asked.node)
        if peer is None:
            return self.requests.pass_over(job, f"no [peers.{asked.node}] in the settings any more")
        if self.requests.is_overdue(record):
            days = self.requests.settings.answer_days
            return self.requests.pass_over(job, f"it could not be fetched in {days:g} days: {job.claim.note}")
        try:
            return self._fetch(job, asked, record, peer)
        except (LinkRefused, SourceTooLarge) as error:
            return self.requests.pass_over(job, str(error))
        except ServiceUnavailable:
            if job.staging_volume is not None:  # for days, perhaps: others shall not wait with it
                job.fence()
                self.staging.keep_what_came(job.claim.item_id, job.staging_volume)
            raise
        except TransientError as error:
            if job.claim.attempts < TRIES:
                raise
            return self.requests.pass_over(job, f"{error} ({TRIES} times)")

    def _fetch(
        self, job: Job[RecoveryManifest], asked: AskedNode, record: RestoreRecord, peer: PeerSettings
    ) -> Outcome:
        manifest, item = job.manifest, job.claim.item_id
        slack = SIZE_SLACK_BYTES if self.transfer.size_mismatch == "warn" else 0
        size = manifest.size if manifest.bad is None else repacked_size(manifest.size)
        volume = self.staging.reserve_room(item, size + slack, token=job.claim.token, begun_on=job.staging_volume)
        job.staging_volume = volume
        job.save(f"fetching {manifest.size} bytes from {asked.node} to volume {volume}")
        with self.staging.folder(volume, item, job.claim.token) as folder:
            target = folder.path / f"{manifest.bag}.tar"
            with self.breakers.guard(f"rsync:{asked.node}"):
                got = receive(
                    record,
                    target,
                    source=peer.rsync,
                    transfer=self.transfer,
                    size=size,
                    cancellation=job.cancellation,
                    keep_open=folder.keep_open,
                )
            manifest.staged = StagedFile(
                volume=volume,
                path=str(self.staging.relative(volume, target)),
                size=got.bytes,
                tag_manifest_sha256=manifest.tag_manifest_sha256,
            )
        job.add_event(
            EventType.TRANSFER,
            manifest.bag,
            "success",
            source=asked.node,
            restore_id=asked.restore_id,
            bytes=got.bytes,
        )
        return Done(f"fetched {got.bytes} bytes from {asked.node} ({got.sent_bytes} over the wire)")
