"""validate: judges the whole staged bag against the profile; an invalid one goes to quarantine, its owner is told.

An I/O error is never a verdict: it is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpn.audit.trail import EventType
from dpn.bags.validation.profiles import Profile
from dpn.bags.validation.settings import ValidationSettings
from dpn.bags.validation.verdict import judge
from dpn.registry.rules.flags import CancelReason
from dpn.staging.staging import Staging
from dpn.work.outcomes import Done, Fail, Outcome, StartOver
from models.manifests import ReplicationManifest, StagedFile, TransferFacts, ValidationResult
from workers.cancellations import TransferCancellation
from workers.stage import Job


@dataclass(frozen=True)
class ValidateStage:
    """See the module's docstring."""

    staging: Staging
    profile: Profile | None
    settings: ValidationSettings
    name: str = "validate"

    def run(self, job: Job[ReplicationManifest]) -> Outcome:
        facts, staged = job.manifest.transfer, job.manifest.staged
        if facts is None or staged is None:
            return StartOver("copy", "nothing is staged")
        judged = job.manifest.validation
        if judged is not None and not judged.valid:
            return self._refuse(job, facts, staged, judged)
        if not self.staging.holds(staged):
            job.manifest.forget_staged()
            return StartOver("copy", f"the staged bag is gone from volume {staged.volume}")
        job.save(f"validating {staged.size} bytes")
        judged = judge(self.staging.path_of(staged), self.profile, self.settings, job.cancellation)
        if judged.tag_manifest_sha256 not in ("", staged.tag_manifest_sha256):
            job.manifest.forget_staged()
            return StartOver(
                "copy", "the staged bag changed since it was copied: its tag manifest has another digest"
            )
        job.manifest.validation = judged
        job.add_event(
            EventType.VALIDATION,
            facts.bag,
            "success" if judged.valid else "failure",
            profile=judged.profile,
            errors=judged.errors,
            warnings=judged.warnings,
            first_error=judged.first_error,
        )
        if not judged.valid:
            return self._refuse(job, facts, staged, judged)
        return Done(f"the bag is valid: {judged.files} files, {judged.bytes} bytes, {judged.warnings} warnings")

    def _refuse(
        self, job: Job[ReplicationManifest], facts: TransferFacts, staged: StagedFile, judged: ValidationResult
    ) -> Outcome:
        """Says so first and moves the file then: whatever dies in between, the verdict stands."""
        job.save(f"the bag is invalid: {judged.first_error}")
        kept = self.staging.quarantine(staged, job.claim.item_id, judged.model_dump(mode="json"))
        job.manifest.quarantined = kept
        job.add_event(EventType.QUARANTINE, facts.bag, "success", volume=staged.volume, path=kept)
        reason = f"the bag is invalid: {judged.first_error}"
        return Fail(reason, TransferCancellation(CancelReason.BAG_INVALID, judged.first_error or "invalid"))
