"""One bag on its way into an S3 store: see whether it is there, send what is missing, prove what is held."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

from dpn.cancellation import Cancellation
from dpn.errors import DpnError, Misconfigured, StoreMismatch
from dpn.s3.errors import ObjectTooLarge, PreconditionFailed, UploadLost
from dpn.s3.plan import PartPlan, plan_parts, same_plan
from dpn.storage.digests import Digests
from dpn.storage.errors import StagedChanged, StoreConflict
from dpn.storage.evidence import Differs, Judgement, Proven, Unproven, judge
from dpn.storage.s3 import objects
from dpn.storage.s3.bucket import Bucket
from dpn.storage.s3.metadata import encode_metadata
from dpn.storage.s3.upload import MultipartUpload, Written, body_checksum, digester_for, send_body
from dpn.storage.settings import COLD_CLASSES
from dpn.storage.source import Source
from dpn.storage.store import Checkpoint, Fence
from dpn.storage.stored_object import CLAIMED_PART_SIZE, CLAIMED_SHA256, CONTENT_TYPE, Progress, StoredObject
from models.manifests import Receipt, UploadState

MAX_OBJECT_BYTES = 5 * 1024**4
_log = logging.getLogger(__name__)


class Put:
    """One call of Store.put; see there for what it promises."""

    def __init__(
        self,
        bucket: Bucket,
        source: Source,
        key: str,
        *,
        sha256: str,
        metadata: Mapping[str, str],
        resume: UploadState | None,
        checkpoint: Checkpoint,
        cancellation: Cancellation,
        fence: Fence = lambda: None,
        progress: Progress | None = None,
    ) -> None:
        self._bucket = bucket
        self._connection = bucket.connection
        self._capabilities = bucket.capabilities
        self._source = source
        self._key = key
        self._full_key = bucket.connection.prefix + key
        self._sha256 = sha256
        self._metadata = metadata
        self._upload = resume
        self._checkpoint = checkpoint
        self._fence = fence
        self._cancellation = cancellation
        self._progress = progress
        self._done = 0

    def run(self) -> Receipt:
        self._refuse_what_cannot_work()
        if existing := self._existing():
            return self._adopt(existing)
        plan = self._choose_plan()
        try:
            digests, written = self._send_whole(plan) if plan.whole else self._send_in_parts(plan)
        except (PreconditionFailed, UploadLost) as error:
            # Another worker was faster, or the answer to a request of ours that made it visible was lost.
            if existing := self._existing():
                return self._adopt(existing)
            self._abort_upload()
            raise UploadLost(f"{error}; nothing is stored: it is sent anew") from error
        return self._prove(digests, written)

    def _refuse_what_cannot_work(self) -> None:
        if self._source.size > MAX_OBJECT_BYTES:
            raise ObjectTooLarge(
                f"{self._key} has {self._source.size} bytes; S3 holds at most 5 TiB as one object"
            )
        storage_class = self._bucket.settings.storage_class
        if self._capabilities.proof == "read-back" and storage_class in COLD_CLASSES:
            raise Misconfigured(
                f"{self._connection.service}: it neither checks nor shows checksums, {storage_class} cannot be "
                "read back: no copy there could ever be proven. Choose another storage class or store"
            )

    def _find(self, version_id: str | None = None) -> StoredObject | None:
        return objects.find(
            self._connection, self._full_key, version_id=version_id, cancellation=self._cancellation
        )

    def _existing(self) -> StoredObject | None:
        """The object that keeps us from storing ours."""
        return self._find()

    def _condition(self) -> dict[str, Any]:
        """On what the store makes our object visible."""
        return {"IfNoneMatch": "*"} if self._capabilities.refuses_overwriting else {}

    def _adopt(self, existing: StoredObject) -> Receipt:
        """The receipt for an object that was there before us, if it proves to be this very bag."""
        default = plan_parts(self._source.size, self._bucket.settings.part_size_bytes)
        digests = self._digest(same_plan(self._source.size, existing.claimed_part_size) or default)
        judgement = self._judge(existing, digests)
        self._abort_upload()
        if not isinstance(judgement, Proven):
            what = "another content" if isinstance(judgement, Differs) else "what cannot be proven to be the same"
            raise StoreConflict(
                f"{self._bucket.url(self._key)} holds {what}: {judgement.why}. It is not overwritten: "
                "compare the two, move the wrong one away, then retry the item"
            )
        self._report(self._source.size)
        return self._bucket.receipt(self._key, existing, digests, judgement)

    def _choose_plan(self) -> PartPlan:
        """The plan of the upload under way, else one of our own."""
        size = self._source.size
        resumed = same_plan(size, self._upload.part_size) if self._upload else None
        if resumed and not resumed.whole:
            return resumed
        self._abort_upload()
        return plan_parts(size, self._bucket.settings.part_size_bytes)

    def _send_whole(self, plan: PartPlan) -> tuple[Digests, Written]:
        digester = digester_for(plan, self._capabilities)
        part = next(plan.parts())
        check = self._cancellation.check
        digest = digester.digest(part, self._source.buffers(part, check))
        self._refuse_other_content(digester.digests())
        headers = {
            **self._headers(plan),
            **body_checksum(digest, self._capabilities),
            **self._condition(),
        }
        tries = itertools.count()

        def request() -> Any:
            # The answer to the try before may be all that was lost.
            if next(tries) and self._existing():
                raise PreconditionFailed(f"{self._full_key} is there by now")
            self._fence()
            return send_body(
                self._source,
                digest,
                check,
                self._connection.client.put_object,
                Bucket=self._connection.bucket,
                Key=self._full_key,
                **headers,
            )

        answer = self._connection.call(
            f"sending {self._full_key}", request, self._cancellation, sent_bytes=plan.size
        )
        self._report(plan.size)
        return digester.digests(), Written.from_answer(answer)

    def _send_in_parts(self, plan: PartPlan) -> tuple[Digests, Written]:
        if self._upload:
            try:
                return self._send_and_complete(self._upload, plan)
            except UploadLost as error:
                if self._existing():
                    raise
                _log.warning("%s; the upload begins anew", error)
                self._forget_upload()
        return self._send_and_complete(self._begin_upload(plan), plan)

    def _send_and_complete(self, state: UploadState, plan: PartPlan) -> tuple[Digests, Written]:
        upload = self._multipart(state)
        self._done = 0
        digests = upload.send(self._source, plan, self._cancellation, self._report)
        self._refuse_other_content(digests)
        written = upload.complete(self._condition(), self._fence, self._cancellation)
        self._forget_upload()
        return digests, written

    def _begin_upload(self, plan: PartPlan) -> UploadState:
        algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if self._capabilities.refuses_wrong_sha256 else {}
        answer = self._connection.call(
            f"beginning the upload of {self._full_key}",
            lambda: self._connection.client.create_multipart_upload(
                Bucket=self._connection.bucket, Key=self._full_key, **self._headers(plan), **algorithm
            ),
            self._cancellation,
        )
        state = UploadState(
            upload_id=self._connection.given(answer, "UploadId"),
            key=self._key,
            part_size=plan.part_size,
            started_at=self._bucket.clock.now(),
        )
        # Known to the database before the first part is sent: nothing is ever billed that no item owns.
        self._checkpoint(state)
        self._upload = state
        return state

    def _headers(self, plan: PartPlan) -> dict[str, Any]:
        claims = {CLAIMED_SHA256: self._sha256, CLAIMED_PART_SIZE: str(plan.part_size)}
        return {
            "ContentType": CONTENT_TYPE,
            "StorageClass": self._bucket.settings.storage_class,
            "Metadata": encode_metadata({**self._metadata, **claims}),
        }

    def _report(self, more_bytes: int) -> None:
        self._done += more_bytes
        if self._progress:
            self._progress(self._done, self._source.size)

    def _digest(self, plan: PartPlan) -> Digests:
        digester = digester_for(plan, self._capabilities)
        for part in plan.parts():
            digester.digest(part, self._source.buffers(part, self._cancellation.check))
        self._refuse_other_content(digester.digests())
        return digester.digests()

    def _refuse_other_content(self, digests: Digests) -> None:
        if digests.sha256 != self._sha256:
            self._abort_upload()
            raise StagedChanged(
                f"{self._source.path.name} has SHA-256 {digests.sha256}, it was validated with {self._sha256}: "
                "nothing was stored, the bag is fetched again"
            )

    def _prove(self, digests: Digests, written: Written) -> Receipt:
        stored = self._connection.wait_visible(lambda: self._find(written.version_id), self._cancellation)
        judgement = self._judge(stored, digests)
        if isinstance(judgement, Proven):
            return self._bucket.receipt(self._key, stored, digests, judgement)
        outcome = self._withdraw(stored, written) if isinstance(judgement, Differs) else "it stays there"
        raise StoreMismatch(f"{self._bucket.url(self._key)}: {judgement.why}; {outcome}")

    def _judge(self, stored: StoredObject, digests: Digests) -> Judgement:
        """By checksums that the store shows and is trusted to have computed, else by reading."""
        judgement = judge(stored, digests, self._capabilities)
        if isinstance(judgement, Proven) and not self._bucket.settings.trusted_checksums:
            judgement = Unproven("store.trusted_checksums is false, and it cannot be read back now")
        # Whether it can be read is the store's word, too: it may keep us from a proof, and never stands for one.
        if isinstance(judgement, Unproven) and stored.storage_class not in COLD_CLASSES:
            return self._judge_by_reading(stored)
        return judgement

    def _judge_by_reading(self, stored: StoredObject) -> Proven | Differs:
        return objects.judge_by_reading(self._connection, stored, self._sha256, self._cancellation)

    def _withdraw(self, stored: StoredObject, written: Written) -> str:
        """Removes the damaged object that we have just made, so that the bag can be sent again; no other one."""
        if stored.etag != written.etag or stored.version_id != written.version_id:
            return "another writer's object is there by now, it stays"
        try:
            objects.remove(self._connection, self._full_key, written.version_id)
        except DpnError as error:
            return f"it could not be removed ({error}): remove it by hand"
        return "it was removed and is sent again"

    def _multipart(self, state: UploadState) -> MultipartUpload:
        return MultipartUpload(
            self._connection,
            self._full_key,
            state.upload_id,
            self._capabilities,
            self._bucket.settings.upload_threads,
        )

    def _abort_upload(self) -> None:
        if self._upload:
            self._multipart(self._upload).abort()
            self._forget_upload()

    def _forget_upload(self) -> None:
        if self._upload:
            self._checkpoint(None)
            self._upload = None
