"""check: judges our copy of a bag and records what was found in our registry, good or bad, once.

Good is a copy that is a valid bag, byte for byte what was stored, whose tag manifest has the registered digest. A
store that is away and a disk that cannot be read are no verdict. The verdict is saved before it is told: whatever
dies, it is the one that is recorded, however often this runs. Where repairs are wanted, the transaction that
records a bad one opens its repair.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from sqlalchemy.orm import Session

from dpn.audit.trail import EventType
from dpn.bags.validation.profiles import Profile
from dpn.bags.validation.settings import ValidationSettings
from dpn.bags.validation.verdict import judge
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.errors import StoreMissing, TransientError
from dpn.fixity import copies as our_copies
from dpn.fixity.begin import repair_under_way
from dpn.fixity.repairs import Repairs, find_repair, was_repaired_in_vain
from dpn.fixity.settings import FixitySettings
from dpn.registry.catalogue import DIGESTS, FIXITY_CHECKS, add_fixity_check, find
from dpn.registry.records import FIXITY_ALGORITHM, FixityCheckRecord
from dpn.registry.rules import Caller, Refused
from dpn.registry.wire import utc_second
from dpn.staging.staging import Staging
from dpn.work.outcomes import Done, Fail, Outcome, StartOver
from models.manifests import CheckManifest, CopyFacts, ValidationResult
from workers.own_copy import OwnCopies
from workers.stage import Job


@dataclass(frozen=True)
class CheckStage:
    """See the module's docstring. `node` is ours. Without `repairs`, a person has to ask for them."""

    node: str
    sessions: Sessions
    copies: OwnCopies
    staging: Staging
    profile: Profile | None
    validation: ValidationSettings
    settings: FixitySettings
    clock: Clock
    repairs: Repairs | None = None
    name: str = "check"

    def run(self, job: Job[CheckManifest]) -> Outcome:
        manifest = job.manifest
        if not manifest.judged:
            if (missing := self._missing(job)) is not None:
                return missing
            self._judge(job)
        if not manifest.recorded and (refused := self._record(job)) is not None:
            return refused
        return self._good(job) if manifest.found is None else self._bad(job)

    # -- the verdict ---------------------------------------------------------------------------------------------

    def _missing(self, job: Job[CheckManifest]) -> StartOver | None:
        """Where to begin anew, if there is nothing to judge."""
        manifest = job.manifest
        if manifest.in_place or (manifest.staged is not None and self.staging.holds(manifest.staged)):
            return None
        manifest.forget_staged()
        if manifest.found is not None:
            return None
        return StartOver("retrieve", "no copy is staged")

    def _judge(self, job: Job[CheckManifest]) -> None:
        manifest, copied = job.manifest, job.manifest.copied
        try:
            judged = manifest.validation = self._read(job)
        except StoreMissing as error:
            judged, manifest.found = None, f"it is not there: {error}"
        if judged is not None:
            # The right bytes came in the end: then it was the way that spoilt them before, not the store.
            before = () if judged.sha256 == copied.sha256 else (manifest.found,)
            problems = [*before, *_differences(copied, judged, self._registered(copied.bag))]
            manifest.found = "; ".join(filter(None, problems)) or None
        manifest.began_at = manifest.began_at or self.clock.now()
        manifest.judged = True
        job.save("judged: " + (manifest.found or "our copy is good"))

    def _read(self, job: Job[CheckManifest]) -> ValidationResult | None:
        """Reads all of the copy where it lies; None if it is known to be bad, and there are no bytes of it."""
        manifest, copied = job.manifest, job.manifest.copied
        if manifest.staged is not None:
            job.save(f"checking {manifest.staged.size} bytes that were retrieved from {copied.receipt.url}")
            path = self.staging.path_of(manifest.staged)
            return judge(path, self.profile, self.validation, job.cancellation)
        if not manifest.in_place:
            return None
        manifest.began_at = self.clock.now()
        job.save(f"checking {copied.size} bytes in place, at {copied.receipt.url}")
        with self.copies.reach(copied) as store:
            in_place = store.open_in_place(copied.key)
            if in_place is None:
                raise TransientError(f"{copied.receipt.url} can no longer be read in place")
            _leave_cache(in_place)
            return judge(in_place, self.profile, self.validation, job.cancellation)

    def _registered(self, bag: str) -> str | None:
        """The digest of the bag's tag manifest in our registry, if it has come there."""
        with reading(self.sessions) as session:
            digest = find(session, DIGESTS, bag, FIXITY_ALGORITHM)
        return None if digest is None else digest.value

    # -- telling it ----------------------------------------------------------------------------------------------

    def _record(self, job: Job[CheckManifest]) -> Fail | None:
        """Enters the check into our registry, and what follows for our copy; returns why that cannot be done."""
        manifest, copied = job.manifest, job.manifest.copied
        good, now = manifest.found is None, self.clock.now()
        began_at = manifest.began_at or now
        check = FixityCheckRecord(
            fixity_check_id=_check_id(job),
            bag=copied.bag,
            node=self.node,
            success=good,
            fixity_at=utc_second(min(began_at, now)),
            created_at=utc_second(now),
        )
        job.fence()
        with self.sessions.begin() as session:
            decision = add_fixity_check(session, check, caller=Caller(self.node, self.node))
            if isinstance(decision, Refused):
                present = find(session, FIXITY_CHECKS, *check.key)
                if decision.status != HTTPStatus.CONFLICT or not _says_the_same(present, check):
                    return self._refused(job, "; ".join(decision.messages))
            in_vain = was_repaired_in_vain(session, copied.bag)  # by what was known before this check
            stands = our_copies.checked(
                session, copied, good=good, at=began_at, every_days=self.settings.every_days
            )
            # A verdict that was overtaken, by a later check or another copy, is no reason to repair anything.
            if stands and in_vain is None and manifest.found is not None and not isinstance(decision, Refused):
                self._open_repair(session, job, manifest.found, began_at)
        self._add_event(job, began_at)
        manifest.recorded = True
        job.save("recorded: " + (manifest.found or "our copy is good"))
        return None

    def _open_repair(self, session: Session, job: Job[CheckManifest], found: str, began_at: datetime) -> None:
        """Opens the repair of a copy that just went on record as bad, where one is wanted and may help."""
        manifest, copied = job.manifest, job.manifest.copied
        if self.repairs is None or _is_as_stored(manifest) or repair_under_way(session, copied.bag) is not None:
            return
        self.repairs.open(session, copied, check_id=_check_id(job), found=found, found_at=began_at)

    def _refused(self, job: Job[CheckManifest], why: str) -> Fail:
        manifest = job.manifest
        found = "good" if manifest.found is None else f"bad: {manifest.found}"
        return Fail(
            f"our registry refuses the record of this check: {why}. Our copy of bag {manifest.copied.bag} is "
            f"{found}. Fix the registry, then `dpn item retry`: the verdict is kept"
        )

    def _add_event(self, job: Job[CheckManifest], began_at: datetime) -> None:
        manifest, copied, judged = job.manifest, job.manifest.copied, job.manifest.validation
        job.add_event(
            EventType.FIXITY_CHECK,
            copied.bag,
            "success" if manifest.found is None else "failure",
            fixity_check=_check_id(job),
            url=copied.receipt.url,
            read="in place" if manifest.in_place else "retrieved" if manifest.staged else "not at all",
            began_at=began_at.isoformat(),
            expected={"sha256": copied.sha256, "tag_manifest_sha256": copied.tag_manifest_sha256},
            validation=None if judged is None else judged.model_dump(mode="json"),
            found=manifest.found,
        )

    # -- the end -------------------------------------------------------------------------------------------------

    def _good(self, job: Job[CheckManifest]) -> Outcome:
        manifest, judged = job.manifest, job.manifest.validation
        read = "in place" if manifest.in_place else "retrieved"
        much = "" if judged is None else f", {judged.files} files, {judged.bytes} bytes of payload"
        return Done(f"our copy at {manifest.copied.receipt.url} is good: read {read}{much}")

    def _bad(self, job: Job[CheckManifest]) -> Outcome:
        manifest, copied = job.manifest, job.manifest.copied
        kept = self._put_aside(job)
        bad = (
            f"our copy of bag {copied.bag} at {copied.receipt.url} is bad: {manifest.found}. {kept}It is recorded "
            "(success=false)."
        )
        with reading(self.sessions) as session:
            repair = find_repair(session, _check_id(job)) or repair_under_way(session, copied.bag)
            in_vain = was_repaired_in_vain(session, copied.bag)
        if repair is not None:
            return Fail(f"{bad} Repair: item {repair.id}", needs_attention=False)
        return Fail(f"{bad} {_advice(manifest, in_vain)}")

    def _put_aside(self, job: Job[CheckManifest]) -> str:
        """Moves a bad copy that was retrieved to quarantine; says where it is. Safe to repeat."""
        manifest, staged = job.manifest, job.manifest.staged
        if staged is None:
            return ""
        report = {"found": manifest.found, "copied": manifest.copied.model_dump(mode="json", exclude={"receipt"})}
        if manifest.validation is not None:
            report["validation"] = manifest.validation.model_dump(mode="json")
        with suppress(FileNotFoundError):  # its volume was lost since: the verdict stands
            kept = self.staging.quarantine(staged, job.claim.item_id, report)
            if manifest.quarantined is None:
                manifest.quarantined = kept
                job.add_event(
                    EventType.QUARANTINE, manifest.copied.bag, "success", volume=staged.volume, path=kept
                )
            return f"What was retrieved is kept in quarantine: {kept} on volume {staged.volume}. "
        return ""


def _check_id(job: Job[CheckManifest]) -> str:
    """The id of its FixityCheck record."""
    return job.manifest.check_id or job.claim.identifier


def _is_as_stored(manifest: CheckManifest) -> bool:
    """Whether the copy's bytes are those that were stored: then another node's would be no better."""
    judged = manifest.validation
    return judged is not None and judged.sha256 == manifest.copied.sha256


def _advice(manifest: CheckManifest, in_vain: int | None) -> str:
    """What a person has to do about a bad copy that nothing is done about by itself."""
    if _is_as_stored(manifest):
        return "No other copy would be better: look at settings.validation, and at the registry's digest of it"
    if in_vain is not None:
        return f"Item {in_vain} had repaired it: look at the store. Then `dpn fixity repair {manifest.copied.bag}`"
    return (
        f"Nothing was done to it. To have another node's take its place: `dpn fixity repair {manifest.copied.bag}`"
    )


def _differences(copied: CopyFacts, judged: ValidationResult, registered: str | None) -> list[str]:
    """What is wrong with a copy that was read: pure."""
    found = []
    is_same = judged.sha256 == copied.sha256
    if not judged.valid:
        since = " (its bytes are those that were stored: settings.validation asks for more now)" if is_same else ""
        found.append(f"the bag is invalid: {judged.first_error}{since}")
    if judged.sha256 and not is_same:
        found.append(f"its SHA-256 is {judged.sha256}, what was stored has {copied.sha256}")
    digest = judged.tag_manifest_sha256
    for whose, expected in (
        ("our registry has", registered),
        ("it had when it was stored", copied.tag_manifest_sha256),
    ):
        if digest and expected is not None and digest != expected.lower():
            found.append(f"its tag manifest has digest {digest}, {whose} {expected}")
    if judged.valid and not (judged.sha256 and digest):
        found.append("it has no tag manifest, or could not be read to its end")
    return found


def _says_the_same(present: FixityCheckRecord | None, check: FixityCheckRecord) -> bool:
    """Whether an earlier run has recorded this very check."""
    if present is None:
        return False
    return (present.bag, present.node, present.success) == (check.bag, check.node, check.success)


def _leave_cache(path: Path) -> None:
    """Has the file's bytes read from its disk: what memory still knows of it proves nothing. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
