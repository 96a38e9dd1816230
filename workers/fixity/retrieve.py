"""retrieve: brings our copy of a bag from the store to a staging volume, proven by its receipt.

Where it can be read in place, nothing is copied. What came before a crash is not fetched again. A copy that is not
what the receipt says is no error of this stage but its finding: it is staged as it is, for the check to say more.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpn.audit.trail import EventType
from dpn.clock import Clock
from dpn.errors import StoreCold, StoreMismatch, StoreMissing, StoreUnavailable
from dpn.fixity.settings import FixitySettings
from dpn.staging.staging import Staging
from dpn.storage.errors import ObjectReplaced, TargetBusy
from dpn.storage.store import Store
from dpn.work.outcomes import Done, Outcome, StartOver, Wait
from models.manifests import CheckManifest, CopyFacts, StagedFile
from workers.own_copy import OwnCopies
from workers.stage import Job


@dataclass(frozen=True)
class RetrieveStage:
    """See the module's docstring."""

    copies: OwnCopies
    staging: Staging
    settings: FixitySettings
    clock: Clock
    name: str = "retrieve"

    def run(self, job: Job[CheckManifest]) -> Outcome:
        manifest = job.manifest
        if manifest.judged or manifest.found is not None:
            return Done("nothing to retrieve")
        if manifest.staged is not None and self.staging.holds(manifest.staged):
            return Done("retrieved already")
        manifest.forget_staged()
        until = manifest.readable_until
        if until is not None and until <= self.clock.now():
            return StartOver("restore-init", f"our copy could be read until {until:%Y-%m-%d %H:%M} UTC")
        try:
            if self._is_in_place(manifest):
                return Done("our copy is read in place")
            return self._retrieve(job)
        except StoreMissing as error:
            manifest.found = f"it is not there: {error}"
            return Done(f"our copy is not there: {error}")
        except StoreCold as error:
            return StartOver("restore-init", f"our copy went cold before it was here: {error}")
        except StoreUnavailable as error:
            seconds = max(self.settings.download_retry_seconds, error.retry_after_seconds or 0.0)
            return Wait(seconds, f"{error}; what came is kept")
        except TargetBusy as error:
            return Wait(self.settings.download_retry_seconds, str(error))

    def _is_in_place(self, manifest: CheckManifest) -> bool:
        manifest.began_at = self.clock.now()
        with self.copies.reach(manifest.copied) as store:
            manifest.in_place = not manifest.away and store.open_in_place(manifest.copied.key) is not None
        return manifest.in_place

    def _retrieve(self, job: Job[CheckManifest]) -> Outcome:
        manifest, copied = job.manifest, job.manifest.copied
        item = job.claim.item_id
        volume = self.staging.reserve_room(item, copied.size, token=job.claim.token, begun_on=job.staging_volume)
        job.staging_volume = volume
        job.save(f"retrieving {copied.size} bytes from {copied.receipt.url} to volume {volume}")
        with self.staging.folder(volume, item, job.claim.token) as folder, self.copies.reach(copied) as store:
            target = folder.path / f"{copied.bag}.tar"
            try:
                job.progress.begin(f"retrieving {copied.receipt.url}", bytes_total=copied.size)
                got = store.retrieve(
                    copied.key,
                    target,
                    receipt=copied.receipt,
                    cancellation=job.cancellation,
                    progress=lambda done, _: job.progress.reach(done),
                )
            except StoreMismatch as error:
                # Noted only once its bytes are here, if they can be had: a crash before that begins anew.
                self._take_as_it_is(job, store, target)
                manifest.staged = self._staged(copied, volume, target) if target.is_file() else None
                manifest.found = f"it is not what was stored: {error}"
                return Done(f"our copy is bad: {manifest.found}")
            manifest.staged = self._staged(copied, volume, target)
        job.add_event(
            EventType.TRANSFER, copied.bag, "success", source=copied.receipt.url, bytes=got.size, sha256=got.sha256
        )
        kept = f" ({got.resumed_bytes} had come before)" if got.resumed_bytes else ""
        return Done(f"retrieved {got.size} bytes{kept}: what was stored")

    def _take_as_it_is(self, job: Job[CheckManifest], store: Store, target: Path) -> None:
        """Fetches the bad bytes, so that a person can look at them: if they can be had, and fit into what we have
        reserved. They may be had no more: then what is known must do."""
        copied = job.manifest.copied
        found = store.head(copied.key)
        if found is None or found.size > copied.size or not _is_receipted(copied, found.version_id):
            return
        with suppress(StoreMismatch, StoreMissing, StoreCold, ObjectReplaced, TargetBusy):
            store.retrieve(copied.key, target, cancellation=job.cancellation)

    def _staged(self, copied: CopyFacts, volume: str, target: Path) -> StagedFile:
        return StagedFile(
            volume=volume,
            path=str(self.staging.relative(volume, target)),
            size=target.stat().st_size,
            tag_manifest_sha256=copied.tag_manifest_sha256,
        )


def _is_receipted(copied: CopyFacts, version_id: str | None) -> bool:
    """Whether the newest version of the object is the one that the receipt speaks of."""
    return copied.receipt.version_id in (None, version_id)
