"""store, of an ingest: puts the packaged bag into our own long-term storage and proves what the store holds.

The tar stays staged: other nodes fetch it next.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpn.fixity.copies import Copies
from dpn.work.outcomes import Done, Outcome, StartOver
from models.manifests import DepositFacts, IngestManifest, Receipt, ValidationResult
from workers.bag_store import BagStore
from workers.peers import Unwanted
from workers.stage import Job


@dataclass(frozen=True)
class IngestStoreStage:
    """See the module's docstring. `node` is ours."""

    node: str
    bag_store: BagStore
    copies: Copies | None = None
    """Where it is noted that we keep this bag, so that it is checked in time."""
    name: str = "store"

    def run(self, job: Job[IngestManifest]) -> Outcome:
        manifest = job.manifest
        deposit, staged, judged = manifest.deposit, manifest.staged, manifest.validation
        if staged is None and manifest.needs_no_staging:
            return Done("stored already, and in our registry")
        if staged is None or judged is None or not self.bag_store.staging.holds(staged):
            manifest.forget_staged()
            return StartOver("package", "the packaged bag is gone")
        if manifest.receipt is not None and manifest.receipt.sha256 == judged.sha256:
            self._remember(job, manifest.receipt, judged)
            return Done(f"stored already at {manifest.receipt.url}")
        try:
            receipt = self.bag_store.put(
                job, deposit.bag, metadata=_metadata(deposit, self.node), fence=job.fence, staged_by="package"
            )
        except Unwanted as unwanted:
            return unwanted.outcome
        manifest.receipt = receipt
        self._remember(job, receipt, judged)
        return Done(f"stored at {receipt.url}")

    def _remember(self, job: Job[IngestManifest], receipt: Receipt, judged: ValidationResult) -> None:
        if self.copies is not None:
            self.copies.remember(
                receipt,
                bag=job.manifest.deposit.bag,
                tag_manifest_sha256=judged.tag_manifest_sha256,
                item_id=job.claim.item_id,
            )


def _metadata(deposit: DepositFacts, node: str) -> dict[str, str]:
    return {
        "from_node": node,
        "transfer_id": f"ingested at {node}",
        "member": deposit.member,
        "local_id": deposit.local_id,
        "version": str(deposit.version),
    }
