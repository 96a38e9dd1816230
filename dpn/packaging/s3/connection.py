"""The S3 server that deposits come from: asked to list and to give, never to change anything."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from dpn.bags.errors import SourceRefused
from dpn.cancellation import Cancellation
from dpn.errors import DpnError, Misconfigured, TransientError
from dpn.packaging.errors import FetchDamaged, SourceChanged, SourceUnavailable
from dpn.packaging.location import S3Location, service_of
from dpn.packaging.settings import DepositS3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5
KEYS_PER_PAGE = 1000

_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
_OUTAGES = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)
_OURS_TO_MEND = {
    "AccessDenied": "allow the key s3:ListBucket and s3:GetObject there, or have the depositor allow it",
    "InvalidAccessKeyId": "correct ingest.s3.access_key_id",
    "XAdminUserNotFound": "correct ingest.s3.access_key_id",
    "SignatureDoesNotMatch": "correct ingest.s3.secret_access_key",
    "ExpiredToken": "renew the credentials",
    "InvalidToken": "renew the credentials",
    "RequestTimeTooSkewed": "set this machine's clock (NTP)",
    "PermanentRedirect": "correct ingest.s3.region or ingest.s3.endpoint_url",
    "AuthorizationHeaderMalformed": "correct ingest.s3.region",
}
_BY_STATUS = {301: "PermanentRedirect", 307: "PermanentRedirect", 401: "AccessDenied", 403: "AccessDenied"}
_GONE = {"NoSuchKey", "NotFound", "404", "PreconditionFailed", "412"}

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """An object as a listing shows it. The key is relative to the prefix."""

    key: str
    size: int
    etag: str


class S3Source:
    """One prefix. Safe to use from several threads at once. Every call ends in an answer or an error of ours."""

    def __init__(self, location: S3Location, settings: DepositS3Settings) -> None:
        self.location = location
        self.service = service_of(location)
        self._client = _open_client(settings)

    def list(self, cancellation: Cancellation) -> Iterator[Listed]:
        """Every object under the prefix, in the server's order. Raises SourceUnavailable, Misconfigured,
        SourceRefused (there is no such bucket)."""
        more: dict[str, str] = {}
        while True:
            page = self._call(f"listing {self.location}", partial(self._page, more), cancellation)
            for one in page.get("Contents", ()):
                key = str(one["Key"]).removeprefix(self.location.prefix)
                if not one.get("ETag"):
                    raise SourceUnavailable(self.service, f"it lists {key} without an entity tag: is it S3?")
                yield Listed(key, int(one["Size"]), str(one["ETag"]))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            more = {"ContinuationToken": token}

    def get(self, key: str, etag: str, start: int) -> dict[str, Any]:
        """The answer with the object's bytes from `start` on, if it is still the one with this entity tag.

        Tried once. Raises SourceChanged, SourceUnavailable, Misconfigured.
        """
        wanted: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {"ChecksumMode": "ENABLED"}
        return self._once(f"fetching {self.location}{key}", lambda: self._get(key, etag, wanted))

    def head(self, key: str, etag: str, cancellation: Cancellation) -> dict[str, Any]:
        """What the server says of an object, its checksums included. Raises as `get`."""
        return self._call(f"asking for {self.location}{key}", lambda: self._head(key, etag), cancellation)

    def failed(self, error: Exception, doing: str) -> Exception:
        """The error of ours for one that came while an answer was being read."""
        if isinstance(error, FlexibleChecksumError):
            return FetchDamaged(f"{self.service}: {doing}: {error}: it is fetched again")
        if isinstance(error, _ERRORS):
            return _translate(error, self.service, doing)
        return SourceUnavailable(self.service, f"{doing}: {error}")

    def _page(self, more: dict[str, str]) -> dict[str, Any]:
        location = self.location
        return dict(
            self._client.list_objects_v2(
                Bucket=location.bucket,
                Prefix=location.prefix,
                MaxKeys=KEYS_PER_PAGE,
                **more,  # type: ignore[arg-type]
            )
        )

    def _get(self, key: str, etag: str, wanted: dict[str, Any]) -> dict[str, Any]:
        location = self.location
        return dict(
            self._client.get_object(Bucket=location.bucket, Key=location.prefix + key, IfMatch=etag, **wanted)
        )

    def _head(self, key: str, etag: str) -> dict[str, Any]:
        location = self.location
        return dict(
            self._client.head_object(
                Bucket=location.bucket, Key=location.prefix + key, ChecksumMode="ENABLED", IfMatch=etag
            )
        )

    def _call(self, doing: str, request: Callable[[], T], cancellation: Cancellation) -> T:
        """Tried again a few times while the server is away; a longer outage is for the runner to wait out."""
        failed = 0
        while True:
            cancellation.check()
            try:
                return self._once(doing, request)
            except SourceUnavailable as error:
                failed += 1
                if failed >= ATTEMPTS:
                    raise
                _log.warning("%s; it is tried again", error)
                cancellation.wait(pause_seconds(failed))

    def _once(self, doing: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except _ERRORS as error:
            translated = _translate(error, self.service, doing)
            if translated is error:
                raise
            raise translated from error


def pause_seconds(failed: int) -> float:
    """How long to wait after `failed` tries: half of it by chance, so that not all come again at once."""
    return float(FIRST_PAUSE_SECONDS * 2 ** (failed - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


def _translate(error: Exception, service: str, doing: str) -> Exception:
    if isinstance(error, ClientError):
        return _refusal(error, service, doing)
    if isinstance(error, _CREDENTIALS):
        return Misconfigured(
            f"{service}: no usable credentials ({error}): set ingest.s3.access_key_id and "
            "ingest.s3.secret_access_key_file, or give this machine a role"
        )
    if isinstance(error, _OUTAGES):
        return SourceUnavailable(service, f"{doing}: {error}")
    return error


def _refusal(error: ClientError, service: str, doing: str) -> DpnError:
    details = error.response.get("Error", {})
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(details.get("Code", ""))
    text = f"{service}: {doing}: {code} {details.get('Message', '')} (HTTP {status})"
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return SourceRefused(f"{text}: there is no such bucket: correct the source")
    if code == "InvalidObjectState":
        return SourceRefused(f"{text}: the object is in cold storage: restore it, then deposit it again")
    if status == 416 or code in _GONE or status in (404, 412):
        return SourceChanged(f"{text}: the object is gone or another one since it was listed")
    if status in (408, 429) or (status >= 500 and status != 501):
        return SourceUnavailable(service, f"{doing}: {code} (HTTP {status})")
    if remedy := _OURS_TO_MEND.get(code) or _OURS_TO_MEND.get(_BY_STATUS.get(status, "")):
        return Misconfigured(f"{text}: {remedy}")
    return TransientError(text)


def _open_client(settings: DepositS3Settings) -> S3Client:
    config = Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        # Retries are ours: botocore sleeps where a stop cannot wake it.
        retries={"total_max_attempts": 1, "mode": "standard"},
        response_checksum_validation="when_required",
        max_pool_connections=settings.fetch_threads + 1,
        tcp_keepalive=True,
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=settings.access_key_id, aws_secret_access_key=settings.secret()
        )
        return session.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise Misconfigured(f"ingest.s3: {error}: correct these settings") from error
