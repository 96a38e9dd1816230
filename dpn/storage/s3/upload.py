"""A multipart upload: begun once, resumed after any crash, its parts sent in parallel and never held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, StoreMismatch
from dpn.s3.body import SliceBody
from dpn.s3.connection import Connection, named_version
from dpn.s3.digests import base64_of
from dpn.s3.errors import UploadLost
from dpn.s3.pages import ListedPart, list_parts
from dpn.s3.plan import PartPlan
from dpn.s3.refusals import TRANSLATED
from dpn.storage.digests import Digester, Digests, PartDigest
from dpn.storage.s3.crc import crc64nvme
from dpn.storage.source import Source
from dpn.storage.store import Fence
from dpn.storage.stored_object import Capabilities

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Written:
    """What the store answered when it made an object visible: enough to know ours from another's."""

    etag: str | None
    version_id: str | None

    @classmethod
    def from_answer(cls, answer: Any) -> Written:
        return cls(str(answer.get("ETag", "")).strip('"') or None, named_version(answer.get("VersionId")))


def digester_for(plan: PartPlan, capabilities: Capabilities) -> Digester:
    """Takes what this store can be compared with; MD5, the expensive one, only where SHA-256 is of no use."""
    return Digester(plan, md5=not _proves_sha256(capabilities), crc64nvme=crc64nvme)


def body_checksum(digest: PartDigest, capabilities: Capabilities) -> dict[str, str]:
    """The checksum that goes with a body: SHA-256 where the store checks it, else MD5, which many check."""
    if capabilities.refuses_wrong_sha256:
        return {"ChecksumSHA256": base64_of(digest.sha256)}
    return {"ContentMD5": base64_of(digest.md5)} if digest.md5 else {}


def send_body(
    source: Source, digest: PartDigest, check: Callable[[], None], request: Callable[..., Any], **arguments: Any
) -> Any:
    """`request` with the part as its body; what the body raises comes out as it was raised."""
    body = SliceBody(source, digest.part, check)
    try:
        return request(Body=body if digest.part.size else b"", ContentLength=digest.part.size, **arguments)
    except TRANSLATED:
        if body.failure:
            raise body.failure from None
        raise


class MultipartUpload:
    """One upload that the store knows, by its `state`."""

    def __init__(
        self, connection: Connection, key: str, upload_id: str, capabilities: Capabilities, threads: int
    ) -> None:
        self._connection = connection
        self._client = connection.client
        self._key = key
        self._upload_id = upload_id
        self._where: Any = {"Bucket": connection.bucket, "Key": key, "UploadId": upload_id}
        self._capabilities = capabilities
        self._threads = threads
        self._sent: dict[int, CompletedPartTypeDef] = {}

    def send(
        self, source: Source, plan: PartPlan, cancellation: Cancellation, advance: Callable[[int], None]
    ) -> Digests:
        """Sends the parts that the store lacks; returns the digests of all. `advance` gets the bytes done.

        Reading and hashing run one part ahead of sending. Raises like Store.put.
        """
        held = _Held(list_parts(self._connection, self._key, self._upload_id, cancellation))
        digester = digester_for(plan, self._capabilities)
        stop = Cancellation()
        pending: set[Future[int]] = set()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="upload") as pool:
            try:
                for part in plan.parts():
                    self._settle(pending, self._threads - 1, cancellation, advance)
                    digest = digester.digest(part, source.buffers(part, cancellation.check))
                    if kept := self._kept(digest, held.part(part.number)):
                        self._sent[part.number] = kept
                        advance(part.size)
                    else:
                        pending.add(pool.submit(self._send_part, source, digest, plan.count, stop))
                self._settle(pending, 0, cancellation, advance)
            finally:
                stop.cancel(Interrupted("the upload was broken off"))
        return digester.digests()

    def complete(self, condition: Any, fence: Fence, cancellation: Cancellation) -> Written:
        """Makes the object visible on a condition. Raises AlreadyThere, UploadLost, what `fence` raises."""
        parts = [self._sent[number] for number in sorted(self._sent)]

        def request() -> Any:
            fence()
            return self._client.complete_multipart_upload(
                **self._where, MultipartUpload={"Parts": parts}, **condition
            )

        return Written.from_answer(self._connection.call(f"completing {self._key}", request, cancellation))

    def abort(self) -> None:
        """Gives up the upload and what it holds; one that is gone already is fine."""
        try:
            request = partial(self._client.abort_multipart_upload, **self._where)
            self._connection.call(f"aborting the upload of {self._key}", request)
        except UploadLost:
            return

    def _kept(self, digest: PartDigest, held: ListedPart | None) -> CompletedPartTypeDef | None:
        """The part as Complete wants it if the store has just these bytes, None if they must be sent."""
        if held is None or held.size != digest.part.size:
            return None
        if self._capabilities.refuses_wrong_sha256 and held.sha256:
            same = held.sha256 == base64_of(digest.sha256)
        else:
            same = self._capabilities.etag_is_md5 and held.etag.strip('"') == digest.md5
        return self._completed(digest, held.etag) if same else None

    def _send_part(self, source: Source, digest: PartDigest, count: int, stop: Cancellation) -> int:
        number, size = digest.part.number, digest.part.size
        checksum: Any = body_checksum(digest, self._capabilities)

        def request() -> str:
            answer = send_body(
                source,
                digest,
                stop.check,
                self._client.upload_part,
                PartNumber=number,
                **self._where,
                **checksum,
            )
            etag = str(self._connection.given(answer, "ETag"))
            if self._capabilities.etag_is_md5 and digest.md5 and etag.strip('"') != digest.md5:
                raise StoreMismatch(f"part {number} of {self._key} has MD5 {etag} in the store, not {digest.md5}")
            return etag

        doing = f"sending part {number} of {count} of {self._key}"
        etag = self._connection.call(doing, request, stop, sent_bytes=size)
        self._sent[number] = self._completed(digest, etag)
        return size

    def _completed(self, digest: PartDigest, etag: str) -> CompletedPartTypeDef:
        part: CompletedPartTypeDef = {"PartNumber": digest.part.number, "ETag": etag}
        if self._capabilities.refuses_wrong_sha256:
            part["ChecksumSHA256"] = base64_of(digest.sha256)
        return part

    @staticmethod
    def _settle(
        pending: set[Future[int]], at_most: int, cancellation: Cancellation, advance: Callable[[int], None]
    ) -> None:
        """Waits until no more than `at_most` parts are on their way; raises what stopped one of them."""
        while True:
            cancellation.check()
            for done in [future for future in pending if future.done()]:
                pending.remove(done)
                advance(done.result())
            if len(pending) <= at_most:
                return
            wait(pending, timeout=STOP_POLL_SECONDS, return_when=FIRST_COMPLETED)


class _Held:
    """The parts that the store has already, looked up in the order of their numbers."""

    def __init__(self, parts: Iterator[ListedPart]) -> None:
        self._parts = parts
        self._next = next(parts, None)

    def part(self, number: int) -> ListedPart | None:
        """The part of that number, which is greater than that asked for before. Raises UploadLost."""
        while self._next and self._next.number < number:
            self._next = next(self._parts, None)
        return self._next if self._next and self._next.number == number else None


def _proves_sha256(capabilities: Capabilities) -> bool:
    return capabilities.refuses_wrong_sha256 and capabilities.shows_sha256
