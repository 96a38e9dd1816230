"""What becomes of an item's staged bytes once it no longer needs them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dpn.errors import DpnError
from dpn.staging.orphans import StagedEvidence
from dpn.staging.staging import Staging
from dpn.telemetry.logs import Log
from dpn.work.leases import Claim
from dpn.work.lifecycle import Change
from models.manifests import ItemManifest
from models.work import Status


@dataclass(frozen=True)
class StagedBytes:
    """Removes them after success; puts a whole bag into quarantine where the item did not succeed.

    Called after the item's end has been committed, and does nothing once the item has been taken up again. What a
    crash leaves behind here, the staging sweep finds.
    """

    staging: Staging
    log: Log

    def leave(self, claim: Claim, manifest: ItemManifest, change: Change) -> None:
        try:
            staged, kept = manifest.staged_file, None
            if change.status is not Status.SUCCESS and manifest.is_evidence and staged is not None:
                report = {"item": claim.item_id, "status": change.status.value, "note": change.note}
                kept = StagedEvidence(staged, report)
            if path := self.staging.leave(claim.item_id, claim.token, kept):
                self.log.warning("bag put into quarantine", item=claim.item_id, path=path, note=change.note)
        except (DpnError, OSError, SQLAlchemyError) as error:
            self.log.warning(
                "staged bytes could not be cleared, the sweep will", item=claim.item_id, error=str(error)
            )
