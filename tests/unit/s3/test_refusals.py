"""What each answer of an S3 server means to a caller, and which setting must be corrected."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import SSLError as TlsError

from dpn.errors import (
    AccessRefused,
    Interrupted,
    Misconfigured,
    StoreCold,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreTimeout,
    StoreUnavailable,
    TransientError,
)
from dpn.http_bounds import AnswerTooLarge, CallTooLong
from dpn.s3.errors import NoBucket, ObjectTooLarge, PreconditionFailed, UploadLost
from dpn.s3.refusals import REMEDIES, Refusals
from dpn.text import is_text

URL = "https://s3.example.org"
REFUSALS = Refusals("store:main", "store", "store.url", "s3:GetObject")
translate = REFUSALS.translate


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
        (507, "XMinioStorageFull", StoreFull),
        (507, "507", StoreFull),
        (403, "QuotaExceeded", StoreFull),
        (403, "AccessDenied", AccessRefused),
        (403, "403", AccessRefused),
        (403, "InvalidAccessKeyId", AccessRefused),
        (403, "SignatureDoesNotMatch", AccessRefused),
        (403, "RequestTimeTooSkewed", AccessRefused),
        (400, "ExpiredToken", AccessRefused),
        (400, "400", Misconfigured),
        (404, "NoSuchBucket", NoBucket),
        (404, "XAdminUserNotFound", AccessRefused),
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
        (412, "PreconditionFailed", PreconditionFailed),
        (416, "InvalidRange", PreconditionFailed),
        (403, "InvalidObjectState", StoreCold),
        (400, "EntityTooLarge", ObjectTooLarge),
        (418, "Teapot", TransientError),
    ],
)
def test_a_refusal_becomes_what_a_caller_can_act_on(status: int, code: str, error: type[Exception]) -> None:
    translated = translate(refusal(status, code), "sending x.tar")

    assert type(translated) is error
    assert "sending x.tar" in str(translated)
    assert code in str(translated)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (EndpointConnectionError(endpoint_url=URL), StoreUnavailable),
        (ConnectTimeoutError(endpoint_url=URL), StoreTimeout),
        (ReadTimeoutError(endpoint_url=URL), StoreTimeout),
        (HTTPClientError(error="reset"), StoreUnavailable),
        (ResponseParserError("<html>"), StoreUnavailable),
        (SSLError(endpoint_url=URL, error=TlsError(ssl.SSLError("handshake"))), StoreUnavailable),
        (SSLError(endpoint_url=URL, error=TlsError(ssl.SSLCertVerificationError("expired"))), Misconfigured),
        (NoCredentialsError(), AccessRefused),
        (InvalidRegionError(region_name="no such/"), Misconfigured),
        (FlexibleChecksumError(error_msg="crc32"), StoreMismatch),
        (CallTooLong(), StoreTimeout),
        (AnswerTooLarge(), StoreUnavailable),
        (HTTPClientError(error=Interrupted("a stop while it was sent")), Interrupted),
        (ParamValidationError(report="a mistake of ours"), ParamValidationError),
    ],
)
def test_an_outage_is_told_from_wrong_settings_and_from_our_mistakes(raised: Any, error: type[Exception]) -> None:
    assert type(translate(raised, "asking")) is error


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("-1", None), ("9" * 400, None)]
)
def test_retry_after_is_taken_only_if_it_is_plain_seconds(header: str, seconds: float | None) -> None:
    translated = translate(refusal(503, "SlowDown", {"retry-after": header}), "asking")

    assert isinstance(translated, StoreUnavailable)
    assert translated.retry_after_seconds == seconds


@pytest.mark.parametrize("code", sorted(REMEDIES))
def test_a_remedy_speaks_of_the_users_own_settings(code: str) -> None:
    deposits = Refusals("source:bucket", "ingest.s3", "the deposit's source", "s3:ListBucket")

    told = str(deposits.translate(refusal(400, code), "listing"))

    assert told.startswith("source:bucket: listing")
    assert "store." not in told
    assert "{" not in told


def test_what_a_server_says_is_cut_and_cannot_forge_lines_of_a_log() -> None:
    error = refusal(403, "AccessDenied")
    error.response["Error"]["Message"] = "no\n2024 all is well\x1b[2J" + "x" * 1_000_000

    told = str(translate(error, "asking"))

    assert is_text(told)
    assert len(told) < 600
    assert "allow the key s3:GetObject" in told
