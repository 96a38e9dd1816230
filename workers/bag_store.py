"""The store as stages put an item's staged, validated bag into it: all stages that store do so in one way.

The upload's state is kept as it goes, so that a crash resumes it; the receipt is in the manifest when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dpn.audit.trail import EventType
from dpn.errors import PermanentError, StoreFailed, TransientError
from dpn.staging.staging import Staging
from dpn.storage.errors import StagedChanged, StoreConflict
from dpn.storage.store import Store
from dpn.work.breakers import Breakers
from dpn.work.outcomes import StartOver, Wait
from models.manifests import IngestManifest, Receipt, ReplicationManifest, UploadState
from workers.peers import Unwanted
from workers.stage import Job

M = TypeVar("M", bound=ReplicationManifest | IngestManifest)


@dataclass(frozen=True)
class BagStore:
    """The store and how to reach it. `conflict_poll_seconds`: how often to look whether a person has helped."""

    staging: Staging
    store: Store
    breakers: Breakers
    conflict_poll_seconds: float

    def put(
        self, job: Job[M], bag: str, *, metadata: Mapping[str, str], fence: Callable[[], None], staged_by: str
    ) -> Receipt:
        """The proof that the store holds the bag; not yet saved. `fence` is asked right before it becomes visible.

        Raises Unwanted: the item starts over at `staged_by`, or waits for a person where the store holds something
        else under this name. Raises StoreFailed for whatever else our store says: it judges no bag, and nobody's
        transfer is given up over it. What `fence` raises comes out as it is.
        """
        staged, judged = job.manifest.staged, job.manifest.validation
        if staged is None or judged is None:
            raise Unwanted(StartOver(staged_by, "nothing is staged"))

        refused: list[Exception] = []

        def may_become_visible() -> None:
            try:
                fence()
            except Exception as error:
                refused.append(error)
                raise

        def keep_upload(upload: UploadState | None) -> None:
            job.manifest.upload = upload
            job.save()

        job.save(f"storing {staged.size} bytes in {self.store.name}")
        try:
            with self.breakers.guard(f"store:{self.store.name}"):
                receipt = self.store.put(
                    self.staging.path_of(staged),
                    f"{bag}.tar",
                    sha256=judged.sha256,
                    metadata=metadata,
                    resume=job.manifest.upload,
                    checkpoint=keep_upload,
                    cancellation=job.cancellation,
                    fence=may_become_visible,
                )
        except StoreConflict as error:
            reason = f"our store holds something else under this bag's name: {error}"
            raise Unwanted(Wait(self.conflict_poll_seconds, reason, needs_attention=True)) from error
        except StagedChanged as error:
            job.manifest.forget_staged()
            raise Unwanted(
                StartOver(staged_by, f"the staged bag has changed since it was validated: {error}")
            ) from error
        except (TransientError, PermanentError) as error:
            if error in refused:
                raise
            raise StoreFailed(f"our store {self.store.name} did not keep the bag: {error}") from error
        job.manifest.upload = None
        job.add_event(
            EventType.REPLICATION,
            bag,
            "success",
            store=receipt.store,
            url=receipt.url,
            sha256=receipt.sha256,
            size=receipt.size,
            confirmed_by=receipt.confirmed_by,
        )
        return receipt
