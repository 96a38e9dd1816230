"""What each answer of an S3 server means to a caller, and how long to wait before asking again."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from dpn.errors import Misconfigured, StoreMismatch, StoreUnavailable, TransientError
from dpn.storage.errors import ObjectTooLarge, StoreCold, StoreMissing, UploadLost
from dpn.storage.s3.connection import Connection, Retries, bucket_and_prefix
from dpn.storage.s3.refusals import AlreadyThere, translate
from dpn.storage.settings import StoreSettings

URL = "https://s3.example.org"


def refusal(status: int, code: str, headers: dict[str, str] | None = None) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "…"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "SlowDown", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (502, "502", StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (507, "XMinioStorageFull", StoreUnavailable),
        (403, "AccessDenied", Misconfigured),
        (403, "403", Misconfigured),
        (403, "InvalidAccessKeyId", Misconfigured),
        (403, "SignatureDoesNotMatch", Misconfigured),
        (403, "RequestTimeTooSkewed", Misconfigured),
        (400, "ExpiredToken", Misconfigured),
        (400, "400", Misconfigured),
        (404, "NoSuchBucket", Misconfigured),
        (404, "XAdminUserNotFound", Misconfigured),
        (301, "301", Misconfigured),
        (400, "AuthorizationHeaderMalformed", Misconfigured),
        (400, "InvalidStorageClass", Misconfigured),
        (501, "NotImplemented", Misconfigured),
        (400, "BadDigest", StoreMismatch),
        (400, "XAmzContentChecksumMismatch", StoreMismatch),
        (400, "InvalidPart", StoreMismatch),
        (404, "NoSuchUpload", UploadLost),
        (404, "NoSuchKey", StoreMissing),
        (404, "404", StoreMissing),
        (412, "PreconditionFailed", AlreadyThere),
        (403, "InvalidObjectState", StoreCold),
        (400, "EntityTooLarge", ObjectTooLarge),
        (418, "Teapot", TransientError),
    ],
)
def test_a_refusal_becomes_what_a_caller_can_act_on(status: int, code: str, error: type[Exception]) -> None:
    translated = translate(refusal(status, code), "store:main", "sending x.tar")

    assert type(translated) is error
    assert "sending x.tar" in str(translated)
    assert code in str(translated)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (EndpointConnectionError(endpoint_url=URL), StoreUnavailable),
        (ConnectTimeoutError(endpoint_url=URL), StoreUnavailable),
        (ReadTimeoutError(endpoint_url=URL), StoreUnavailable),
        (HTTPClientError(error="reset"), StoreUnavailable),
        (ResponseParserError("<html>"), StoreUnavailable),
        (SSLError(endpoint_url=URL, error="handshake"), StoreUnavailable),
        (SSLError(endpoint_url=URL, error="[SSL: CERTIFICATE_VERIFY_FAILED]"), Misconfigured),
        (NoCredentialsError(), Misconfigured),
        (ParamValidationError(report="a mistake of ours"), ParamValidationError),
    ],
)
def test_an_outage_is_told_from_wrong_settings_and_from_our_mistakes(raised: Any, error: type[Exception]) -> None:
    assert type(translate(raised, "store:main", "asking")) is error


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("-1", None), ("9" * 400, None)]
)
def test_retry_after_is_taken_only_if_it_is_plain_seconds(header: str, seconds: float | None) -> None:
    translated = translate(refusal(503, "SlowDown", {"retry-after": header}), "store:main", "asking")

    assert isinstance(translated, StoreUnavailable)
    assert translated.retry_after_seconds == seconds


def test_waits_grow_are_drawn_at_random_and_end_somewhere() -> None:
    retries = Retries(first_seconds=1, max_seconds=10, random=random.Random(1))

    drawn = {failed: [retries.delay_seconds(failed, None) for _ in range(200)] for failed in (1, 2, 3, 9)}

    assert all(0 <= delay <= 1 for delay in drawn[1])
    assert 1 < max(drawn[2]) <= 2
    assert 2 < max(drawn[3]) <= 4
    assert max(drawn[9]) <= 10
    assert len(set(drawn[1])) > 100
    assert retries.delay_seconds(1, 5) >= 5
    assert retries.delay_seconds(1, 5000) == 10


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bags", ("bags", "")),
        ("s3://bags/", ("bags", "")),
        ("s3://bags/a/b", ("bags", "a/b/")),
        ("s3://bags//a/", ("bags", "a/")),
    ],
)
def test_a_prefix_is_empty_or_ends_in_one_slash(url: str, expected: tuple[str, str]) -> None:
    assert bucket_and_prefix(url) == expected


def test_opening_a_store_asks_nothing_of_it_and_needs_no_credentials() -> None:
    connection = Connection(StoreSettings(url="s3://bags", endpoint_url="http://127.0.0.1:1"), Retries())

    assert connection.service == "store:main"


def test_a_folder_store_needs_no_boto3(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dpn.clock import SystemClock; from dpn.storage.settings import StoreSettings;"
        "from dpn.storage.stores import open_store;"
        f"open_store(StoreSettings(url={tmp_path.as_uri()!r}), clock=SystemClock()).probe();"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules or 'awscrt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
