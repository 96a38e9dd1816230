"""settle: puts a proven copy in the place of our bad one, tells the node that gave it, has the new object checked.

Right before that, ours is looked at again: one that is good by now is left as it is, and one that nobody has found
bad is never replaced, but for what an earlier try of the same repair has left unproven. The receipt is durable
before anybody is told. Nothing else is removed. A drill ends here with what it has proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpn.audit.trail import EventType
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.errors import StoreCold, StoreMismatch, StoreMissing, StoreUnavailable
from dpn.fixity.copies import remember
from dpn.fixity.repairs import Repairs
from dpn.fixity.settings import FixitySettings
from dpn.registry.catalogue import BAGS, find
from dpn.staging.staging import Staging
from dpn.storage.errors import ObjectReplaced, StagedChanged
from dpn.storage.store import Store
from dpn.storage.stored_object import StoredObject
from dpn.work.outcomes import Done, Outcome, StartOver
from models.manifests import CopyFacts, Receipt, RecoveryManifest, UploadState, ValidationResult
from workers.own_copy import OwnCopies
from workers.recovery.requests import Requests
from workers.stage import Job


@dataclass(frozen=True)
class SettleStage:
    """See the module's docstring."""

    requests: Requests
    copies: OwnCopies
    staging: Staging
    sessions: Sessions
    settings: FixitySettings
    repairs: Repairs
    clock: Clock
    name: str = "settle"

    def run(self, job: Job[RecoveryManifest]) -> Outcome:
        manifest = job.manifest
        if manifest.bad is None:
            return self._end_drill(job)
        if manifest.receipt is None:
            if (not_ready := self._not_ready(job)) is not None:
                return not_ready
            try:
                self._repair(job, manifest.bad)
            except StagedChanged as error:
                manifest.forget_staged()
                return StartOver("fetch", f"what came has changed since it was judged: {error}")
        self._enter(job)
        self._finish(job)
        return self._done(job, manifest.bad)

    def _not_ready(self, job: Job[RecoveryManifest]) -> StartOver | None:
        """Where to begin anew, if there is nothing to put into the store."""
        manifest = job.manifest
        if manifest.asking is None:
            return StartOver("ask", "nobody is asked")
        if manifest.staged is None or not self.staging.holds(manifest.staged):
            manifest.forget_staged()
            return StartOver("fetch", "what came is gone")
        return StartOver("judge", "what came has not been judged") if manifest.validation is None else None

    # -- the object ----------------------------------------------------------------------------------------------

    def _repair(self, job: Job[RecoveryManifest], ours: CopyFacts) -> None:
        """Has a proven object lie under our copy's key, and its receipt in the manifest, saved.

        Raises StagedChanged, ObjectReplaced: an object lies there that is neither the bag nor the one found bad.
        """
        manifest = job.manifest
        job.save(f"looking again at our copy, {ours.receipt.url}")
        with self.copies.reach(ours) as store:
            before = store.head(ours.key)
            receipt, bad = self._look_again(job, store, ours, before)
            if receipt is None:
                begun_before, manifest.replacing = manifest.replacing, True
                tried = before if begun_before and _is_try_of(manifest, before) else None
                receipt = self._replace(job, store, ours, bad, tried)
                stayed = before is not None and store.head(ours.key) == before
                # What an earlier run of ours has put there, and died, was not good by itself.
                manifest.good_again = stayed and not begun_before
        manifest.receipt, manifest.upload = receipt, None
        self._add_event(job, ours, before)
        job.save("the store holds a proven copy again")

    def _look_again(
        self, job: Job[RecoveryManifest], store: Store, ours: CopyFacts, found: StoredObject | None
    ) -> tuple[Receipt | None, StoredObject | None]:
        """The renewed receipt of a copy that is good by now; or the object that is bad, if that is known of it."""
        receipted = found is not None and ours.receipt.version_id in (None, found.version_id)
        reads_by_itself = self._reads_by_itself(store, ours)
        if found is None or not receipted or (reads_by_itself and not job.manifest.is_repacked):
            return None, found if receipted else None
        try:
            receipt = store.confirm(ours.receipt, read_back=True, cancellation=job.cancellation)
        except (StoreMismatch, StoreMissing):
            return None, found
        except StoreUnavailable:
            if not reads_by_itself:
                raise
            return None, found  # a bad sector: a disk that is gone takes no other copy either
        except StoreCold:
            return None, found if self._was_read(job.manifest, found) else None
        job.manifest.good_again = not job.manifest.replacing
        return receipt, None

    def _reads_by_itself(self, store: Store, ours: CopyFacts) -> bool:
        """Whether the store, asked to replace an object, reads it first: then once is enough, if it is the same
        tar that takes its place. It knows, too, that what cannot be read (a bad sector) is bad."""
        try:
            return store.open_in_place(ours.key) is not None
        except (StoreMissing, StoreUnavailable):
            return False

    def _was_read(self, manifest: RecoveryManifest, found: StoredObject) -> bool:
        """Whether a cold object, which cannot be read now, has lain there unchanged since it was found bad."""
        return manifest.found_at is not None and found.modified_at <= manifest.found_at

    def _replace(
        self,
        job: Job[RecoveryManifest],
        store: Store,
        ours: CopyFacts,
        bad: StoredObject | None,
        tried: StoredObject | None,
    ) -> Receipt:
        """`tried` is what an earlier run of this repair put there: kept if it proves good, else replaced again."""
        try:
            return self._put(job, store, ours, bad)
        except ObjectReplaced:
            if tried is None:
                raise
            return self._put(job, store, ours, tried)

    def _put(self, job: Job[RecoveryManifest], store: Store, ours: CopyFacts, bad: StoredObject | None) -> Receipt:
        manifest = job.manifest
        staged, judged = manifest.staged, manifest.validation
        if staged is None or judged is None:
            raise StagedChanged("nothing is staged")

        def keep_upload(upload: UploadState | None) -> None:
            manifest.upload = upload
            job.save()

        job.save(f"replacing our copy by the {staged.size} bytes that came")
        replaced = store.replace(
            self.staging.path_of(staged),
            ours.key,
            sha256=judged.sha256,
            metadata=self._metadata(manifest),
            bad=bad,
            resume=manifest.upload,
            checkpoint=keep_upload,
            cancellation=job.cancellation,
            fence=job.fence,
        )
        manifest.kept_version = replaced.kept_version
        return replaced.receipt

    def _metadata(self, manifest: RecoveryManifest) -> dict[str, str]:
        """What is said beside the object: where it comes from, and what our registry knows of the bag."""
        asked = manifest.asking
        said = {"from_node": asked.node, "transfer_id": asked.restore_id} if asked else {}
        with reading(self.sessions) as session:
            bag = find(session, BAGS, manifest.bag)
        if bag is not None:
            said |= {"member": bag.member, "local_id": bag.local_id, "version": str(bag.version)}
        return said

    def _add_event(self, job: Job[RecoveryManifest], ours: CopyFacts, before: StoredObject | None) -> None:
        manifest, receipt, asked = job.manifest, job.manifest.receipt, job.manifest.asking
        if receipt is None:
            return
        job.add_event(
            EventType.COPY_REPLACED,
            manifest.bag,
            "not needed" if manifest.good_again else "success",
            url=ours.receipt.url,
            found=manifest.found,
            fixity_check=job.claim.identifier,
            source=asked.node if asked else None,
            restore_id=asked.restore_id if asked else None,
            before=_told(before),
            version_before=before.version_id if before else None,
            version_now=receipt.version_id,
            version_kept=manifest.kept_version,
            sha256_before=ours.sha256,
            sha256=receipt.sha256,
            tag_manifest_sha256=ours.tag_manifest_sha256,
            size=receipt.size,
            confirmed_by=receipt.confirmed_by,
        )

    # -- the books -----------------------------------------------------------------------------------------------

    def _enter(self, job: Job[RecoveryManifest]) -> None:
        """Notes that we keep the new object, and has it checked at once. Safe to repeat."""
        manifest, now = job.manifest, self.clock.now()
        if manifest.replaced or manifest.receipt is None:
            return
        job.fence()
        with self.sessions.begin() as session:
            remember(
                session,
                manifest.receipt,
                bag=manifest.bag,
                tag_manifest_sha256=manifest.tag_manifest_sha256,
                item_id=job.claim.item_id,
                every_days=self.settings.every_days,
            )
            manifest.check_item = self.repairs.check_again(
                session, manifest.bag, job.claim.identifier, job.claim.item_id, now
            )
        manifest.replaced = True
        job.save(f"our copy is repaired; item {manifest.check_item} checks it again")

    def _finish(self, job: Job[RecoveryManifest]) -> None:
        manifest, asked = job.manifest, job.manifest.asking
        if manifest.finished or asked is None:
            return
        for late in manifest.hopes[:-1]:
            self.requests.note_end(job, late, f"the bag came from {asked.node}")
        job.fence()
        refused = self.requests.finish(asked)
        manifest.finished = True
        job.add_event(
            EventType.COPY_REQUESTED,
            manifest.bag,
            "success",
            peer=asked.node,
            restore_id=asked.restore_id,
            why=refused,
        )
        job.save()

    # -- the end -------------------------------------------------------------------------------------------------

    def _done(self, job: Job[RecoveryManifest], ours: CopyFacts) -> Done:
        manifest = job.manifest
        source = manifest.asking.node if manifest.asking else "another node"
        then = f"item {manifest.check_item} checks it again"
        if manifest.good_again:
            return Done(f"our copy at {ours.receipt.url} was good when it was to be replaced, and stays; {then}")
        kept = f" (version {manifest.kept_version}, bad, stays in the history)" if manifest.kept_version else ""
        how = ""
        if manifest.receipt is not None and manifest.receipt.sha256 != ours.sha256:
            how = f" (packed anew: SHA-256 {manifest.receipt.sha256}, before {ours.sha256})"
        return Done(f"our copy at {ours.receipt.url} was replaced by a good one from {source}{how}{kept}; {then}")

    def _end_drill(self, job: Job[RecoveryManifest]) -> Outcome:
        manifest, judged = job.manifest, job.manifest.validation
        if not manifest.finished and (not_ready := self._not_ready(job)) is not None:
            return not_ready
        self._finish(job)
        source = manifest.asking.node if manifest.asking else "another node"
        return Done(f"{source} gave us the bag, whole and valid{_counts(judged)}; what came is removed")


def _is_try_of(manifest: RecoveryManifest, stored: StoredObject | None) -> bool:
    """Whether this recovery has put that object there: it says under which request of ours its bytes came."""
    return stored is not None and stored.metadata.get("transfer_id") in {one.restore_id for one in manifest.asked}


def _told(stored: StoredObject | None) -> dict[str, Any] | None:
    """What a curator may ask of the object that was replaced."""
    if stored is None:
        return None
    return {
        "size": stored.size,
        "etag": stored.etag,
        "modified_at": stored.modified_at.isoformat(),
        "storage_class": stored.storage_class,
    }


def _counts(judged: ValidationResult | None) -> str:
    if judged is None:
        return ""
    only = ", proven only by the bag's own manifest" if judged.payload_proven is False else ""
    return f": {judged.files} files, {judged.bytes} bytes of payload{only}"
