"""restore-init: has our copy of a bag brought back from cold storage, and waits until it can be read.

What can be read goes on at once. Waiting is no attempt and takes up no worker. However often this runs, a restore
is asked for once, and again only if it has expired. A copy that is not there goes on, too: that is what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dpn.audit.trail import EventType
from dpn.clock import Clock
from dpn.errors import StoreMissing
from dpn.fixity.settings import FixitySettings
from dpn.fixity.thaw_budget import ColdBudget
from dpn.storage.availability import Availability
from dpn.storage.settings import Tier
from dpn.work.outcomes import Done, Outcome, Wait
from models.manifests import CheckManifest, RestoreRequest
from workers.own_copy import OwnCopies
from workers.stage import Job

SHORTEST_TIME = timedelta(hours=6)
"""What can be read for less than this is asked for longer: it may have to wait for room, then for its download."""

PATIENCE = timedelta(days=3)
"""How long a restore may well take: 48 hours are usual for Bulk from DEEP_ARCHIVE."""


@dataclass(frozen=True)
class RestoreInitStage:
    """See the module's docstring."""

    copies: OwnCopies
    budget: ColdBudget
    settings: FixitySettings
    tier: Tier
    clock: Clock
    name: str = "restore-init"

    def run(self, job: Job[CheckManifest]) -> Outcome:
        manifest, copied = job.manifest, job.manifest.copied
        if manifest.judged:
            return Done("judged already")
        manifest.found = manifest.readable_until = None
        try:
            with self.copies.reach(copied) as store:
                found = store.availability(copied.key, version_id=copied.receipt.version_id)
            if found.state == "missing":
                return self._missing(job, found.why)
            if found.state != "cold":
                self._taken(job, found.storage_class, "accepted")  # by a worker that died before it could say so
            if found.state == "restoring":
                return self._wait(job, found.why)
            if found.state == "available" and self._lasts(found.until):
                return _readable(job, found.why, found.until)
            return self._ask(job, found)
        except StoreMissing as error:
            return self._missing(job, str(error))

    def _lasts(self, until: datetime | None) -> bool:
        return until is None or until - self.clock.now() >= SHORTEST_TIME

    def _ask(self, job: Job[CheckManifest], found: Availability) -> Outcome:
        """Asks for the copy to be readable, or to stay so for longer."""
        manifest, copied, settings = job.manifest, job.manifest.copied, self.settings
        before = manifest.restore
        if found.state == "cold" and (refusal := self._over_budget(job)) is not None:
            return refusal
        if found.state == "cold":
            # Saved first: a request that is billed shall not be forgotten, whatever dies.
            manifest.restore = RestoreRequest(
                tier=self.tier, days=settings.keep_restored_days, requested_at=self.clock.now()
            )
        job.save(f"asking for its restore: {found.why}")
        with self.copies.reach(copied) as store:
            asked = store.request_restore(
                copied.key,
                tier=self.tier,
                days=settings.keep_restored_days,
                version_id=copied.receipt.version_id,
                cancellation=job.cancellation,
            )
        match asked.outcome:
            case "already-available":
                # The store says that it can be read; where our clock says that this is over, the store is right.
                until = asked.until if asked.until and asked.until > self.clock.now() else None
                return _readable(job, asked.why, until)
            case "accepted" | "faster" | "under-way":
                self._taken(job, asked.storage_class, asked.outcome)
                return self._wait(job, asked.why)
            case "no-capacity":
                self._untaken(job, found, before)
                reason = (
                    f"the store has no {self.tier} restore to give now: {asked.why}. Asked again; "
                    "or set retrieval_tier to Standard ([fixity], [restore])"
                )
                return Wait(settings.look_again_seconds, reason)
            case "refused":
                self._untaken(job, found, before)
                reason = (
                    f"the store refuses a {self.tier} restore of {copied.receipt.url}: {asked.why}. "
                    "Set another retrieval_tier ([fixity], [restore])"
                )
                return Wait(settings.look_again_seconds, reason, needs_attention=True)

    def _untaken(self, job: Job[CheckManifest], found: Availability, before: RestoreRequest | None) -> None:
        """The store has not taken what was asked: that counts for no budget, unlike what it took earlier."""
        job.manifest.restore = before
        if found.state == "cold":
            self.budget.give_back(job.claim.item_id)

    def _over_budget(self, job: Job[CheckManifest]) -> Wait | None:
        """Why the store is not asked now, if it is not."""
        copied, asked = job.manifest.copied, job.manifest.restore
        refusal = self.budget.take(
            job.claim.item_id,
            bag=copied.bag,
            size=copied.size,
            tier=self.tier,
            again=asked is not None and asked.taken,
        )
        if refusal is None:
            return None
        remedy = "raise fixity.max_cold_bytes_per_month"
        if refusal.until is None:
            reason = f"it is not asked out of cold storage: {refusal.why}; {remedy}, or cancel the item"
            return Wait(self.settings.look_again_seconds, reason, needs_attention=True)
        reason = (
            f"it is not asked out of cold storage before {refusal.until:%Y-%m-%d %H:%M} UTC: {refusal.why}; for "
            f"sooner, {remedy}"
        )
        return Wait(self.settings.look_again_seconds, reason)

    def _taken(self, job: Job[CheckManifest], storage_class: str | None, outcome: str) -> None:
        """Each restore of ours that the store has taken is in the audit trail, once: it is billed."""
        asked, copied = job.manifest.restore, job.manifest.copied
        if asked is None or asked.taken:
            return
        job.manifest.restore = asked.model_copy(update={"taken": True})
        job.add_event(
            EventType.RESTORE_REQUESTED,
            copied.bag,
            outcome,
            url=copied.receipt.url,
            storage_class=storage_class,
            size=copied.size,
            **asked.model_dump(mode="json", exclude={"taken"}),
        )

    def _wait(self, job: Job[CheckManifest], why: str) -> Wait:
        asked = job.manifest.restore
        ours = (
            "which we did not ask for"
            if asked is None
            else f"asked for on {asked.requested_at:%Y-%m-%d %H:%M} UTC ({asked.tier}, for {asked.days} days)"
        )
        reason = f"waiting for its restore from cold storage, {ours}: {why}"
        return Wait(self.settings.look_again_seconds, reason, patience_seconds=PATIENCE.total_seconds())

    def _missing(self, job: Job[CheckManifest], why: str) -> Outcome:
        job.manifest.began_at = self.clock.now()
        job.manifest.found = f"it is not there: {why}"
        return Done(f"our copy is not there: {why}")


def _readable(job: Job[CheckManifest], why: str, until: datetime | None) -> Done:
    job.manifest.readable_until = until
    return Done(f"our copy can be read: {why}")
