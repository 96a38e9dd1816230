"""judge: reads all of what another node gave us. What fixes our copy has to be the very bytes that we had stored,
or the same bag in another tar: then the tag manifest, whose digest we took when we stored it, proves every file.

What is not the bag goes to quarantine, and the next node is asked. An I/O error is never a verdict.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from dpn.audit.trail import EventType
from dpn.bags.validation.profiles import Profile
from dpn.bags.validation.settings import ValidationSettings
from dpn.database import reading
from dpn.recovery.arrival import is_same_content, judge_received
from dpn.staging.staging import Staging
from dpn.work.outcomes import Done, Outcome, StartOver
from models.manifests import CopyFacts, RecoveryManifest, StagedFile, ValidationResult
from models.preservation import StoredCopy
from workers.recovery.requests import Requests
from workers.stage import Job


@dataclass(frozen=True)
class JudgeStage:
    """See the module's docstring."""

    requests: Requests
    staging: Staging
    profile: Profile | None
    validation: ValidationSettings
    size_mismatch: Literal["reject", "warn"] = "reject"
    name: str = "judge"

    def run(self, job: Job[RecoveryManifest]) -> Outcome:
        manifest, asked, staged = job.manifest, job.manifest.asking, job.manifest.staged
        if asked is None:
            why = manifest.asked[-1].ended if manifest.asked else None
            return self._put_aside(job, why or "nobody is asked")
        if staged is None or not self.staging.holds(staged):
            manifest.forget_staged()
            return StartOver("fetch", "nothing is staged")
        job.save(f"judging {staged.size} bytes that {asked.node} gave us")
        problems = self._problems(job, staged)
        if problems:
            why = f"what it gave us is not the bag: {'; '.join(problems)}"
            # Saved before the file is moved: whatever dies, the verdict stands.
            self.requests.note_end(job, asked, why)
            return self._put_aside(job, f"{asked.node}: {why}")
        return Done(f"what {asked.node} gave us is the bag, whole")

    def _problems(self, job: Job[RecoveryManifest], staged: StagedFile) -> tuple[str, ...]:
        """What is wrong with what came, noted with all that was seen of it."""
        manifest, asked = job.manifest, job.manifest.asking
        with reading(self.requests.sessions) as session:
            ours = session.get(StoredCopy, manifest.bag)
        judged = judge_received(
            self.staging.path_of(staged),
            bag=manifest.bag,
            # What repairs ours is proven file by file: a tar that was packed anew has another size.
            size=manifest.size if self.size_mismatch == "reject" and manifest.bad is None else None,
            tag_manifest_sha256=manifest.tag_manifest_sha256,
            profile=self.profile,
            validation=self.validation,
            cancellation=job.cancellation,
            known_sha256=None if ours is None else ours.sha256,
            accept_unproven=ours is None and manifest.bad is None,  # a drill, whose note says so
        )
        manifest.validation, problems = judged.validation, judged.problems
        if manifest.bad is not None:
            problems = _as_stored(problems, judged.validation, manifest.bad)
        job.add_event(
            EventType.VALIDATION,
            manifest.bag,
            "failure" if problems else "success",
            source=None if asked is None else asked.node,
            problems=list(problems),
            stored_sha256=None if manifest.bad is None else manifest.bad.sha256,
            **judged.validation.model_dump(mode="json"),
        )
        return problems

    def _put_aside(self, job: Job[RecoveryManifest], why: str) -> StartOver:
        """Keeps what came, for a person to look at. Safe to repeat."""
        manifest, staged = job.manifest, job.manifest.staged
        if staged is not None:
            report: dict[str, Any] = {"why": why, "asked": [one.model_dump(mode="json") for one in manifest.asked]}
            if manifest.validation is not None:
                report["validation"] = manifest.validation.model_dump(mode="json")
            with suppress(FileNotFoundError):  # its volume was lost since: the verdict stands
                manifest.quarantined = self.staging.quarantine(staged, job.claim.item_id, report)
                job.add_event(
                    EventType.QUARANTINE,
                    manifest.bag,
                    "success",
                    volume=staged.volume,
                    path=manifest.quarantined,
                )
        manifest.forget_staged()
        return StartOver("ask", why)


def _as_stored(problems: tuple[str, ...], judged: ValidationResult, ours: CopyFacts) -> tuple[str, ...]:
    """What is wrong with a tar that is to repair ours: pure.

    Byte for byte what was validated and stored is good, whatever the profile asks for by now. Another tar is if
    all in it is proven to be the same: a tag manifest need not list every file, so its digest alone is not enough.
    """
    if judged.sha256 == ours.sha256:
        return ()
    if is_same_content(judged, ours.tag_manifest_sha256):
        return problems
    has = judged.sha256 or "not known"
    unproven = "and its tag manifest does not prove that all in it is the same"
    return (*problems, f"its SHA-256 is {has}, what we had stored has {ours.sha256}, {unproven}")
