"""A bucket as a root; see dpn.objects.root for what it promises.

What must not be replaced is written on a condition that the server holds (`If-None-Match: *`, `If-Match`). Whether
it does is seen with the first such object: one that does not is asked before each write whether something is
there. Of two writers of one moment the server lets one win (AWS), or looks and then writes (versitygw).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from dpn.cancellation import Cancellation
from dpn.errors import Misconfigured, ObjectExists, SourceChanged, StoreMissing, StoreUnavailable
from dpn.objects.content import ObjectContent
from dpn.objects.keys import MAX_KEY_BYTES, KeyRefused, check_key, check_prefix, key_fault, shown
from dpn.objects.root import ObjectInfo, OpenObject, PartialWrite, Skipped, Tell, WriteOptions, WrittenObject
from dpn.objects.s3.answers import etag_of, object_info, whole_size
from dpn.objects.s3.write import Write, abort_upload
from dpn.s3.connection import Connection, named_version
from dpn.s3.errors import PreconditionFailed, UploadLost
from dpn.s3.pages import list_objects
from dpn.s3.ranges import read_range

PART_BYTES = 8 * 1024 * 1024
"""Of what is written in parts. A smaller object is sent at once; each part under way is held in memory."""
SENDERS = 2
"""Parts of one object that are sent at the same time."""


class _Pin:
    """One content of an object, by its full key."""

    def __init__(self, key: str, info: ObjectInfo) -> None:
        self.key = key
        self.size, self.etag, self.version_id = info.size, info.tag, info.version


class S3Root:
    """What lies under the connection's prefix."""

    def __init__(self, name: str, connection: Connection, *, part_size: int = PART_BYTES) -> None:
        self.name = name
        self._connection = connection
        self._part_size = part_size
        self._keeps_conditions: bool | None = None
        self._bucket_was_seen = False

    def walk(
        self,
        prefix: str = "",
        *,
        after: str | None = None,
        skipped: Tell = lambda _: None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[ObjectInfo]:
        """See Root.walk. Objects that stand for folders, empty and with a '/' at the end, are passed by."""
        below = f"{check_prefix(prefix)}/" if prefix else ""
        return self._walk(below, check_key(after) if after else None, skipped, cancellation)

    def head(self, key: str, cancellation: Cancellation | None = None) -> ObjectInfo | None:
        """See Root.head."""
        full = self._full(key)
        request = partial(
            self._connection.client.head_object, Bucket=self._connection.bucket, Key=full, ChecksumMode="ENABLED"
        )
        try:
            answer: Any = self._connection.call(f"asking for {shown(full)}", request, cancellation)
        except StoreMissing:
            self._see_bucket(cancellation)
            return None
        return object_info(self._connection, key, answer, self._connection.given(answer, "ContentLength"))

    @contextmanager
    def open(
        self,
        key: str,
        *,
        tag: str | None = None,
        start: int = 0,
        size: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[OpenObject]:
        """See Root.open. One request, and more only where it breaks off."""
        full, doing = self._full(key), f"reading {shown(key)}"
        cancellation = cancellation or Cancellation()
        asked: dict[str, Any] = {"IfMatch": f'"{tag}"'} if tag else {}
        if start or size is not None:
            asked["Range"] = f"bytes={start}-{'' if size is None else start + size - 1}"
        else:
            asked["ChecksumMode"] = "ENABLED"
        request = partial(self._connection.client.get_object, Bucket=self._connection.bucket, Key=full, **asked)
        with self._as_a_source_fails(key):
            answer: Any = self._connection.call(doing, request, cancellation)
        with closing(answer["Body"]):
            if tag and etag_of(answer) != tag:  # not every server heeds If-Match
                raise self._changed(key)
            with self._as_a_source_fails(key):
                whole = whole_size(self._connection, shown(key), answer, start, size)
            info = object_info(self._connection, key, answer, whole)
            chunks = self._chunks(_Pin(full, info), answer, start, size or whole - start, doing, cancellation)
            with closing(chunks):
                yield OpenObject(info, self._read(key, chunks))

    def write(self, key: str, chunks: Iterable[bytes], size: int, how: WriteOptions) -> WrittenObject:
        """See Root.write. What is larger than a part is sent in parts, and may be taken up again."""
        full = self._full(key)
        content = ObjectContent(key, chunks, size, how)
        write = Write(self._connection, full, content, size, how, part_size=self._part_size, senders=SENDERS)
        conditional = how.if_absent or how.if_tag is not None
        if conditional and not (self._keeps_conditions and write.whole):
            self._refuse(key, how)
        try:
            answer = write.whole_object() if write.whole else write.in_parts()
        except (PreconditionFailed, StoreMissing, UploadLost) as error:
            if content.failure is error:
                raise
            # The answer to a try of ours that made it visible may be all that was lost.
            found = write.visible()
            if found is None:
                raise self._lost(key, error, how) from error
            answer = found
        if conditional and write.whole and self._keeps_conditions is None:
            self._keeps_conditions = write.is_refused_now()
        checked = write.is_checked(answer)
        return WrittenObject(
            key, size, etag_of(answer), named_version(answer.get("VersionId")), content.hashes(), checked
        )

    def abandon(self, key: str, partial_write: PartialWrite) -> None:
        """See Root.abandon."""
        abort_upload(self._connection, self._full(key), partial_write.id)

    def remove(self, key: str, *, tag: str | None = None, cancellation: Cancellation | None = None) -> bool:
        """See Root.remove. In a bucket with versions, earlier contents stay."""
        full = self._full(key)
        found = self.head(key, cancellation)
        if found is None:
            return False
        if tag is not None and found.tag != tag:
            raise self._changed(key)
        condition: Any = {"IfMatch": f'"{tag}"'} if tag else {}
        request = partial(
            self._connection.client.delete_object, Bucket=self._connection.bucket, Key=full, **condition
        )
        with self._as_a_source_fails(key):
            self._connection.call(f"removing {shown(full)}", request, cancellation)
        return True

    def _see_bucket(self, cancellation: Cancellation | None) -> None:
        """Once: a HEAD does not tell whether the object or its bucket is missing. Raises Misconfigured."""
        if not self._bucket_was_seen:
            request = partial(self._connection.client.head_bucket, Bucket=self._connection.bucket)
            try:
                self._connection.call("asking for the bucket", request, cancellation)
            except StoreMissing as error:
                raise Misconfigured(
                    f"{self._connection.service}: there is no bucket {self._connection.bucket!r}: create it, or "
                    "correct the root's url"
                ) from error
            self._bucket_was_seen = True

    def _walk(
        self, below: str, after: str | None, skipped: Tell, cancellation: Cancellation | None
    ) -> Iterator[ObjectInfo]:
        last = after
        for row in list_objects(self._connection, cancellation, below=below, after=after):
            if last is not None and row.key <= last:
                # Who goes on behind a key relies on it; and a listing that goes back need never end.
                raise self._connection.nonsense(
                    f"it lists {shown(row.key)} behind {shown(last)}, which is no order"
                )
            last = row.key
            if (fault := key_fault(row.key)) is None:
                modified_at = self._connection.given({"LastModified": row.modified_at}, "LastModified")
                yield ObjectInfo(row.key, row.size, modified_at, row.etag.strip('"') or None)
            elif row.size or not row.key.endswith("/"):
                skipped(Skipped(shown(row.key), fault))

    def _chunks(
        self, pin: _Pin, answer: Any, start: int, size: int, doing: str, cancellation: Cancellation
    ) -> Generator[bytes, None, None]:
        position = 0
        try:
            for data in self._connection.body(doing, answer, size, cancellation):
                position += len(data)
                yield data
        except StoreUnavailable:
            if pin.etag is None or position == size:
                raise
            yield from read_range(self._connection, pin, start + position, size - position, cancellation)

    def _read(self, key: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._as_a_source_fails(key):
            yield from chunks

    def _refuse(self, key: str, how: WriteOptions) -> None:
        """What keeps the object from being written, as far as can be seen before."""
        found = self.head(key, how.cancellation)
        if found is None and how.if_tag is not None:
            raise self._taken(key, "the one to be replaced is gone")
        if found is not None and (how.if_absent or found.tag != how.if_tag):
            raise self._taken(
                key, "it is there" if how.if_absent else "another one than was to be replaced is there"
            )

    def _lost(self, key: str, error: Exception, how: WriteOptions) -> Exception:
        if not isinstance(error, UploadLost) and (how.if_absent or how.if_tag is not None):
            return self._taken(key, "another writer was faster")
        return StoreUnavailable(self._connection.service, f"{error}: it is written anew")

    @contextmanager
    def _as_a_source_fails(self, key: str) -> Iterator[None]:
        try:
            yield
        except PreconditionFailed as error:
            raise self._changed(key) from error

    def _full(self, key: str) -> str:
        full = self._connection.prefix + check_key(key)
        if len(full.encode()) > MAX_KEY_BYTES:
            raise KeyRefused(
                f"key {shown(key)}: with the root's prefix it has more than {MAX_KEY_BYTES} bytes: shorten it"
            )
        return full

    def _taken(self, key: str, why: str) -> ObjectExists:
        return ObjectExists(f"{self._connection.service}: {shown(key)}: {why}: it is not replaced")

    def _changed(self, key: str) -> SourceChanged:
        return SourceChanged(f"{self._connection.service}: {shown(key)} changed, or is another one by now")
