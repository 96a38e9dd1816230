"""One object on its way into a bucket: at once, or in parts of which a later try sends only what is missing.

A part is held in memory while it is sent, so that it can be sent again although a stream cannot be read again. Its
SHA-256 goes with it: a server that reckons it refuses what the wire damaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, SourceChanged, StoreMismatch, StoreMissing
from dpn.objects.content import ObjectContent
from dpn.objects.keys import shown
from dpn.objects.root import PartialWrite, SentPart, WriteOptions
from dpn.objects.s3.answers import spelled
from dpn.s3.body import SEND_BYTES, SliceBody
from dpn.s3.connection import Connection
from dpn.s3.digests import base64_of, composite_sha256
from dpn.s3.errors import ObjectTooLarge, PreconditionFailed, UploadLost
from dpn.s3.pages import ListedPart, list_parts
from dpn.s3.plan import Part, PartPlan, plan_parts, same_plan
from dpn.s3.refusals import TRANSLATED

MAX_OBJECT_BYTES = 5 * 1024**4
HELD_BYTES = 256 * 1024 * 1024
"""Of parts under way, for one object: parts of very large ones are sent one after the other."""
STOP_POLL_SECONDS = 0.1


class Write:
    """One call of S3Root.write; `key` is the full one."""

    def __init__(
        self,
        connection: Connection,
        key: str,
        content: ObjectContent,
        size: int,
        how: WriteOptions,
        *,
        part_size: int,
        senders: int,
    ) -> None:
        if size > MAX_OBJECT_BYTES:
            raise ObjectTooLarge(f"{shown(key)} has {size} bytes; S3 holds at most 5 TiB as one object")
        resumed = same_plan(size, how.resume.part_size) if how.resume else None
        self._plan = resumed or plan_parts(size, part_size)
        self._resume = how.resume if resumed else None
        self.whole = self._plan.whole
        """Whether it is sent in one piece."""
        self._connection = connection
        self._key = key
        self._content = content
        self._how = how
        self._senders = max(1, min(senders, HELD_BYTES // self._plan.part_size - 1))
        self._where: Any = {"Bucket": connection.bucket, "Key": key}
        self._again: Any = None
        self._tries = 0
        self._checksum = ""

    def whole_object(self) -> Any:
        """Sends it at once; returns the server's answer. Raises as Root.write; PreconditionFailed."""
        body = next(_pieces(self._content, self._plan))
        sha256 = self._content.hashes()["sha256"]
        self._checksum = base64_of(sha256)

        def request() -> Any:
            self._tries += 1
            return self._put(body)

        self._again = partial(self._put, body)
        doing = f"writing {shown(self._key)}"
        return self._connection.call(doing, request, self._how.cancellation, sent_bytes=len(body))

    def in_parts(self) -> Any:
        """Sends the parts that the server lacks, and has it make one object of them; returns its answer.

        Raises as Root.write; PreconditionFailed, UploadLost.
        """
        begun = _Begun(self._connection, self._where, self._resume, self._how)
        try:
            if self._resume is None:
                begun.begin(self._plan.part_size, self._metadata())
            sent = self._send(begun)
            self._content.hashes()
        except (SourceChanged, StoreMismatch) as error:
            # What the wire damaged on its way from the source says nothing against what was sent before.
            if isinstance(error, SourceChanged) or error is not self._content.failure:
                begun.abort()
            raise
        except UploadLost:
            self._how.checkpoint(None)
            raise
        parts = [sent[number] for number in sorted(sent)]
        self._checksum = f"{composite_sha256(part.sha256 for part in parts)}-{len(parts)}"

        def request() -> Any:
            self._tries += 1
            return begun.complete(parts, self._condition())

        try:
            doing = f"completing {shown(self._key)}"
            answer = self._connection.call(doing, request, self._how.cancellation)
        except PreconditionFailed:
            begun.abort()
            raise
        except UploadLost:
            self._how.checkpoint(None)
            raise
        self._how.checkpoint(None)
        return answer

    def visible(self) -> Any:
        """What the server says of the object, if a try whose answer was lost may have written it; else None."""
        if self._tries < 2:
            return None
        request = partial(self._connection.client.head_object, ChecksumMode="ENABLED", **self._where)
        try:
            answer = self._connection.call(f"asking for {shown(self._key)}", request, self._how.cancellation)
        except StoreMissing:
            return None
        return answer if answer.get("ContentLength") == self._plan.size and self.is_checked(answer) else None

    def is_checked(self, answer: Any) -> bool:
        """Whether the server says the checksum of just these bytes."""
        # Some leave out of how many parts a checksum is.
        told = answer.get("ChecksumSHA256")
        return bool(told) and told in (self._checksum, self._checksum.partition("-")[0])

    def is_refused_now(self) -> bool:
        """Whether the server refuses to replace what was just written at once, by the very same bytes."""
        request = partial(self._again, {"IfNoneMatch": "*"})
        try:
            self._connection.call(f"writing {shown(self._key)}", request, self._how.cancellation, attempts=1)
        except PreconditionFailed:
            return True
        return False

    def _put(self, body: bytearray, condition: Any = None) -> Any:
        headers = {"ChecksumSHA256": self._checksum, "Metadata": self._metadata()}
        headers.update(self._condition() if condition is None else condition)
        send = self._connection.client.put_object
        return _send_body(send, body, self._how.cancellation, self._where, headers)

    def _condition(self) -> Any:
        if self._how.if_absent:
            return {"IfNoneMatch": "*"}
        return {"IfMatch": f'"{self._how.if_tag}"'} if self._how.if_tag is not None else {}

    def _metadata(self) -> dict[str, str]:
        return spelled(self._how.modified_at) if self._how.modified_at is not None else {}

    def _send(self, begun: _Begun) -> dict[int, SentPart]:
        held = begun.held()
        stop = Cancellation()
        pending: set[Future[None]] = set()
        with ThreadPoolExecutor(self._senders, thread_name_prefix="write") as pool:
            try:
                for part, body in zip(self._plan.parts(), _pieces(self._content, self._plan), strict=True):
                    self._settle(pending, self._senders - 1, begun)
                    pending.add(pool.submit(begun.send, part, body, held.get(part.number), stop))
                self._settle(pending, 0, begun)
            finally:
                stop.cancel(Interrupted("the write was broken off"))
        return dict(begun.sent)

    def _settle(self, pending: set[Future[None]], at_most: int, begun: _Begun) -> None:
        """Waits until no more than `at_most` parts are on their way; raises what stopped one of them."""
        while True:
            self._how.cancellation.check()
            done = [future for future in pending if future.done()]
            pending.difference_update(done)
            for future in done:
                future.result()
            if done:
                begun.tell()
            if len(pending) <= at_most:
                return
            wait(pending, timeout=STOP_POLL_SECONDS, return_when=FIRST_COMPLETED)


class _Begun:
    """An upload in parts that the server knows, or soon will."""

    def __init__(self, connection: Connection, where: Any, resume: PartialWrite | None, how: WriteOptions) -> None:
        self._connection = connection
        self._key = where["Key"]
        self._where = where
        self._how = how
        self._known = resume or PartialWrite("")
        self.sent: dict[int, SentPart] = {}

    def begin(self, part_size: int, metadata: dict[str, str]) -> None:
        """Makes it known: to the caller, too, before the first part is sent."""
        request = partial(
            self._connection.client.create_multipart_upload,
            **self._where,
            ChecksumAlgorithm="SHA256",
            Metadata=metadata,
        )
        answer = self._connection.call(f"beginning to write {shown(self._key)}", request, self._how.cancellation)
        self._known = PartialWrite(self._connection.given(answer, "UploadId"), part_size)
        self.tell()

    def tell(self) -> None:
        """Has the caller keep what was reached."""
        parts = {**self._known.parts, **self.sent}
        self._how.checkpoint(PartialWrite(self._known.id, self._known.part_size, parts))

    def held(self) -> dict[int, ListedPart]:
        """What the server has of it. Raises UploadLost."""
        if not self._known.parts:
            return {}
        listed = list_parts(self._connection, self._key, self._known.id, self._how.cancellation)
        return {part.number: part for part in listed}

    def send(self, part: Part, body: bytearray, held: ListedPart | None, stop: Cancellation) -> None:
        """Sends a part unless the server has just these bytes."""
        sha256 = hashlib.sha256(body).hexdigest()
        if held is not None and self._has(part, sha256, held):
            self.sent[part.number] = SentPart(sha256, held.etag)
            return
        headers = {"PartNumber": part.number, "UploadId": self._known.id, "ChecksumSHA256": base64_of(sha256)}
        send = self._connection.client.upload_part
        request = partial(_send_body, send, body, stop, self._where, headers)
        doing = f"writing part {part.number} of {shown(self._key)}"
        answer = self._connection.call(doing, request, stop, sent_bytes=len(body))
        self.sent[part.number] = SentPart(sha256, str(self._connection.given(answer, "ETag")))

    def complete(self, parts: list[SentPart], condition: Any) -> Any:
        """Makes the object visible: one request."""
        rows = [
            {"PartNumber": number, "ETag": part.etag, "ChecksumSHA256": base64_of(part.sha256)}
            for number, part in enumerate(parts, 1)
        ]
        return self._connection.client.complete_multipart_upload(
            **self._where,
            UploadId=self._known.id,
            MultipartUpload={"Parts": rows},  # type: ignore[typeddict-item]
            **condition,
        )

    def abort(self) -> None:
        """Has the server forget it, and the caller."""
        abort_upload(self._connection, self._key, self._known.id)
        self._how.checkpoint(None)

    def _has(self, part: Part, sha256: str, held: ListedPart) -> bool:
        if held.size != part.size:
            return False
        if held.sha256:
            return held.sha256 == base64_of(sha256)
        # A server that keeps no checksums still has the part that we sent, if its tag is the one we were told.
        return self._known.parts.get(part.number) == SentPart(sha256, held.etag)


def abort_upload(connection: Connection, key: str, upload_id: str) -> None:
    """Has the server forget an upload in parts; one that is gone already is fine."""
    request = partial(
        connection.client.abort_multipart_upload, Bucket=connection.bucket, Key=key, UploadId=upload_id
    )
    try:
        connection.call(f"giving up the upload of {shown(key)}", request)
    except UploadLost:
        return


class _Held:
    """Bytes in memory, to be read by SliceBody."""

    def __init__(self, body: bytearray) -> None:
        self._view = memoryview(body)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._view[offset : offset + size])


def _send_body(request: Any, body: bytearray, cancellation: Cancellation, where: Any, headers: Any) -> Any:
    """`request` with the bytes as its body; what stops it on the way comes out as it was raised."""
    if len(body) <= SEND_BYTES:  # no asking first whether the server would take it
        return request(Body=bytes(body), ContentLength=len(body), **where, **headers)
    sliced = SliceBody(_Held(body), Part(1, 0, len(body)), cancellation.check)
    try:
        return request(Body=sliced, ContentLength=len(body), **where, **headers)
    except TRANSLATED:
        if sliced.failure:
            raise sliced.failure from None
        raise


def _pieces(content: ObjectContent, plan: PartPlan) -> Iterator[bytearray]:
    """The content in the parts of the plan. Raises as it does."""
    pieces = plan.parts()
    piece = bytearray(next(pieces).size)
    filled = 0
    for chunk in content:
        with memoryview(chunk) as view:
            taken = 0
            while taken < len(view):
                if filled == len(piece):
                    yield piece
                    piece, filled = bytearray(next(pieces).size), 0
                count = min(len(piece) - filled, len(view) - taken)
                piece[filled : filled + count] = view[taken : taken + count]
                filled, taken = filled + count, taken + count
    yield piece
