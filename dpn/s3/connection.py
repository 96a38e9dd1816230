"""One bucket at one server: every call ends in an answer or in an error of ours, and is tried a few times."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dpn.cancellation import Cancellation
from dpn.errors import StoreMismatch, StoreUnavailable
from dpn.http_bounds import Bounds, bounded
from dpn.s3.client import open_client
from dpn.s3.limits import AnswerLimits, Patience, Retries
from dpn.s3.refusals import TRANSLATED, Refusals
from dpn.s3.settings import S3Access

RECEIVE_BYTES = 256 * 1024
"""How much is taken from the socket at a time: larger buffers come fresh from the kernel each, zeroed."""
MAX_BYTES = 2**63 - 1
"""Of an object, for whoever believes what its server says: what a database or a file system can count."""

FIRST_LOOK_SECONDS = 0.05
"""After this an object that was not shown is looked for again; then after twice as long, and so on."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Connection:
    """One bucket, or what lies under `prefix` there. Safe to use from several threads at once.

    `client` is botocore's own, to be used through `call` only.
    """

    def __init__(
        self,
        access: S3Access,
        bucket: str,
        prefix: str,
        refusals: Refusals,
        *,
        max_connections: int,
        retries: Retries | None = None,
        limits: AnswerLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Asks nothing yet. `prefix` is empty or ends in a slash. Raises Misconfigured."""
        self.bucket, self.prefix = bucket, prefix
        self.service = refusals.service
        self._retries, self.limits = retries or Retries(), limits or AnswerLimits()
        self.client = open_client(
            access, section=refusals.section, max_connections=max_connections, limits=self.limits
        )
        self._endpoint = access.endpoint_url or "AWS"
        self._refusals = refusals
        self._monotonic = monotonic

    def call(
        self,
        doing: str,
        request: Callable[[], T],
        cancellation: Cancellation | None = None,
        *,
        attempts: int | None = None,
        sent_bytes: int = 0,
    ) -> T:
        """The answer to `request`, tried again while the store is overloaded or refuses what the wire damaged.

        `doing` is for the operator: "sending part 3 of x.tar". `sent_bytes` are those of the request's body, which
        may take time accordingly. Raises dpn.errors and dpn.s3.errors, and what the request's body raises.
        """
        cancellation = cancellation or Cancellation()
        failed = 0
        while True:
            cancellation.check()
            try:
                with bounded(self._bounds(sent_bytes, cancellation)), self._translating(doing):
                    return request()
            except (StoreUnavailable, StoreMismatch) as error:
                failed += 1
                if failed >= (attempts or self._retries.attempts):
                    raise
                delay = self._retries.delay_seconds(failed, getattr(error, "retry_after_seconds", None))
                _log.warning("%s; try %d follows in %.1f s", error, failed + 1, delay)
                cancellation.wait(delay)

    def body(
        self,
        doing: str,
        answer: Mapping[str, Any],
        size: int,
        cancellation: Cancellation,
        *,
        chunk_size: int = RECEIVE_BYTES,
    ) -> Generator[bytes, None, None]:
        """The `size` bytes that come with an answer, piece by piece; it is closed afterwards, however it ended.

        Raises StoreUnavailable (it broke off, or came far too slowly), StoreMismatch (there are more, or they do
        not have the checksum that came along), Interrupted.
        """
        body, come = answer["Body"], 0
        bounds = self._bounds(size, cancellation)
        bounds.bytes_left += 2 * size  # chunks have lengths and ends of their own
        try:
            while True:
                with bounded(bounds), self._translating(doing):
                    data = body.read(min(chunk_size, size - come + 1))
                come += len(data)
                if come > size:
                    raise StoreMismatch(f"{self.service}: {doing}: it sends more than the {size} bytes it told of")
                if not data:
                    break
                paused = self._monotonic()
                yield data
                bounds.until += self._monotonic() - paused  # what the caller took is not the store's time
        finally:
            body.close()
        if come < size:
            raise StoreUnavailable(self.service, f"{doing}: it broke off {size - come} bytes too early")

    def patience(self, size: int) -> Patience:
        """With the reading of an object, or of a part of it, of `size` bytes, from now on."""
        return Patience(self._retries, self._monotonic, self._monotonic() + self.limits.seconds(size))

    def given(self, answer: Mapping[str, Any], name: str) -> Any:
        """What every S3 server says in this answer, or in this row; StoreUnavailable for what none would say."""
        value = answer.get(name)
        if value is None or (isinstance(value, int) and not 0 <= value <= MAX_BYTES):
            what = f"without {name}" if value is None else f"with {name} {str(value)[:50]}"
            raise self.nonsense(f"it answers {what}: is {self._endpoint} an S3 server?")
        return value

    def wait_visible(self, looked: Callable[[], T | None], cancellation: Cancellation | None = None) -> T:
        """What `looked` returns, once it is more than None: something that was just written.

        Raises StoreUnavailable for what is not there after `limits.visible_seconds`; what `looked` raises.
        """
        cancellation = cancellation or Cancellation()
        waited, delay = 0.0, FIRST_LOOK_SECONDS
        while (found := looked()) is None:
            if waited >= self.limits.visible_seconds:
                raise StoreUnavailable(self.service, f"it does not show what was stored {waited:.0f} s ago")
            cancellation.wait(delay)
            cancellation.check()
            waited, delay = waited + delay, 2 * delay
        return found

    def nonsense(self, reason: str) -> StoreUnavailable:
        """What to raise for an answer that no S3 server would give."""
        return StoreUnavailable(self.service, reason)

    def _bounds(self, body_bytes: int, cancellation: Cancellation) -> Bounds:
        until = self._monotonic() + self.limits.seconds(body_bytes)
        return Bounds(self._monotonic, until, self.limits.answer_bytes, cancellation.check)

    @contextmanager
    def _translating(self, doing: str) -> Iterator[None]:
        try:
            yield
        except TRANSLATED as error:
            translated = self._refusals.translate(error, doing)
            if translated is error:
                raise
            raise translated from error


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """`s3://bucket/some/where` → (`bucket`, `some/where/`); the prefix is empty or ends in a slash."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def named_version(version_id: str | None) -> str | None:
    """The version to ask for again; stores without versions say none, or "null"."""
    return None if version_id in (None, "", "null") else version_id
