"""One bucket at one S3 endpoint: every call ends in an answer or in an error of ours, and is tried a few times."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from dpn.cancellation import Cancellation
from dpn.errors import Misconfigured, StoreMismatch, StoreUnavailable
from dpn.storage.s3.refusals import translate
from dpn.storage.settings import StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
BOTO_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    """How often a call is tried while the store is overloaded or unreachable, and how long to wait between.

    The wait before try n + 1 is drawn evenly from 0 to `first_seconds` doubled n - 1 times ("full jitter"), or is
    what the store asks for (Retry-After), never more than `max_seconds`. A longer outage is for the runner to
    wait out.
    """

    attempts: int = 5
    first_seconds: float = 0.5
    max_seconds: float = 10.0
    random: random.Random = field(default_factory=random.SystemRandom)

    def delay_seconds(self, failed: int, retry_after_seconds: float | None) -> float:
        """How long to wait after `failed` tries."""
        drawn = self.random.uniform(0, min(self.max_seconds, self.first_seconds * 2 ** (failed - 1)))
        return min(self.max_seconds, max(drawn, retry_after_seconds or 0.0))


class Connection:
    """A client for one bucket. `client` is boto3's own, to be used through `call` or `once` only."""

    def __init__(self, settings: StoreSettings, retries: Retries) -> None:
        self.bucket, self.prefix = bucket_and_prefix(settings.url)
        self.service = f"store:{settings.name}"
        self.client = _open_client(settings)
        self._endpoint = settings.endpoint_url or "AWS"
        self._retries = retries

    def call(self, doing: str, request: Callable[[], T], cancellation: Cancellation | None = None) -> T:
        """The answer to `request`, tried again while the store is overloaded or refuses what the wire damaged.

        `doing` is for the operator: "sending part 3 of x.tar". Raises dpn.errors and dpn.storage.errors.
        """
        cancellation = cancellation or Cancellation()
        failed = 0
        while True:
            cancellation.check()
            try:
                return self.once(doing, request)
            except (StoreUnavailable, StoreMismatch) as error:
                failed += 1
                if failed >= self._retries.attempts:
                    raise
                delay = self._retries.delay_seconds(failed, getattr(error, "retry_after_seconds", None))
                _log.warning("%s; try %d follows in %.1f s", error, failed + 1, delay)
                cancellation.wait(delay)

    def given(self, answer: Mapping[str, Any], name: str) -> Any:
        """What every S3 server must say in this answer; StoreUnavailable if what answers is no S3 server."""
        if answer.get(name) is None:
            raise StoreUnavailable(self.service, f"it answered without {name}: is {self._endpoint} an S3 server?")
        return answer[name]

    def once(self, doing: str, request: Callable[[], T]) -> T:
        """The answer to `request`, tried once."""
        try:
            return request()
        except BOTO_ERRORS as error:
            translated = translate(error, self.service, doing)
            if translated is error:
                raise
            raise translated from error


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """`s3://bucket/some/where` → (`bucket`, `some/where/`); the prefix is empty or ends in a slash."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def _open_client(settings: StoreSettings) -> S3Client:
    config = Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        # Retries are ours: botocore sleeps where a stop cannot wake it, and would send a whole body again for one.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # We send a checksum of our own with everything that matters; stores differ in which others they take.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=max(10, 4 * settings.upload_threads, 4 * settings.retrieve_threads),
        tcp_keepalive=True,
        s3={
            # The part's SHA-256 is in a signed header of its own: hashing the body once more proves nothing new.
            "payload_signing_enabled": False,
            "addressing_style": "path" if settings.endpoint_url else "auto",
        },
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=settings.access_key_id, aws_secret_access_key=settings.secret()
        )
        return session.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise Misconfigured(f"store:{settings.name}: {error}: correct the [store] settings") from error
