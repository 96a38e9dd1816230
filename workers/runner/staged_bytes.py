"""What becomes of an item's staged bytes once it no longer needs them."""

from __future__ import annotations

from dataclasses import dataclass

from dpn.errors import DpnError
from dpn.staging.staging import Staging
from dpn.telemetry.logs import Log
from dpn.work.leases import Claim
from dpn.work.lifecycle import Change
from models.manifests import ItemManifest
from models.work import Status


@dataclass(frozen=True)
class StagedBytes:
    """Removes them after success; puts a whole bag into quarantine where the item did not succeed.

    Called after the item's end has been committed. What a crash leaves behind here, the staging sweep finds.
    """

    staging: Staging
    log: Log

    def leave(self, claim: Claim, manifest: ItemManifest, change: Change) -> None:
        try:
            staged = manifest.staged_file
            is_kept = change.status is not Status.SUCCESS and manifest.is_evidence
            if is_kept and staged is not None and self.staging.holds(staged):
                report = {"item": claim.item_id, "status": change.status.value, "note": change.note}
                kept = self.staging.quarantine(staged, claim.item_id, report)
                self.log.warning("bag put into quarantine", item=claim.item_id, path=str(kept), note=change.note)
            self.staging.remove(claim.item_id)
        except (DpnError, OSError) as error:
            self.log.warning(
                "staged bytes could not be cleared, the sweep will", item=claim.item_id, error=str(error)
            )
