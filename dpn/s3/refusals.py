"""From what botocore raises to what a caller can act on: wait, correct the settings, send again, give up."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.util.ssl_match_hostname import CertificateError

from dpn import errors
from dpn.errors import (
    AccessRefused,
    DpnError,
    Misconfigured,
    StoreFull,
    StoreMismatch,
    StoreTimeout,
    StoreUnavailable,
    TransientError,
)
from dpn.http_bounds import AnswerTooLarge, CallTooLong
from dpn.s3 import errors as s3
from dpn.text import replaced

TRANSLATED = (boto.BotoCoreError, boto.ClientError, ResponseParserError, CallTooLong, AnswerTooLarge)
"""What `translate` takes."""

MOVED = "correct {section}.region or {section}.endpoint_url"
RENEW = "renew the credentials"
WRONG_KEY = "correct {section}.access_key_id"
LACKING = "the store lacks what we need of S3"
REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "InvalidBucketName": "correct the bucket's name in {bucket_in}",
        "AccessDenied": "allow the key {permissions}",
        "AllAccessDisabled": "ask the store's operator why the bucket is closed",
        "AccountProblem": "ask the store's operator what is wrong with the account",
        "InvalidAccessKeyId": WRONG_KEY,
        "XAdminUserNotFound": WRONG_KEY,
        "SignatureDoesNotMatch": "correct {section}.secret_access_key",
        "ExpiredToken": RENEW,
        "InvalidToken": RENEW,
        "TokenRefreshRequired": RENEW,
        "RequestTimeTooSkewed": "set this machine's clock (NTP)",
        "PermanentRedirect": MOVED,
        "AuthorizationHeaderMalformed": "correct {section}.region",
        "InvalidStorageClass": "correct {section}.storage_class",
        "400": "renew or correct the credentials, correct {section}.region or the bucket's name in {bucket_in} "
        "(a HEAD tells no reason)",
        "NotImplemented": LACKING,
        "MethodNotAllowed": LACKING,
    }
)
ACCESS = frozenset(
    (
        *("AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidAccessKeyId", "XAdminUserNotFound"),
        *("SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed"),
    )
)
"""Of these, what says that we are not known, or not allowed."""
BY_STATUS = {301: "PermanentRedirect", 307: "PermanentRedirect", 401: "AccessDenied", 403: "AccessDenied"}
CHECKSUM_REFUSALS = frozenset(
    ("BadDigest", "InvalidPart", "InvalidPartOrder", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch")
)
OVERLOADED = frozenset(
    ("RequestTimeout", "RequestTimeoutException", "Throttling", "ThrottlingException", "SlowDown")
)
"""Whatever the status: some come with 400."""
FULL = frozenset(("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"))
TIMED_OUT = (boto.ConnectTimeoutError, boto.ReadTimeoutError, CallTooLong)
RESTORE = "RestoreObject"
RESTORE_REFUSALS: Mapping[str, type[TransientError]] = MappingProxyType(
    {
        **dict.fromkeys(("RestoreAlreadyInProgress", "Conflict", "409"), s3.RestoreUnderWay),
        **dict.fromkeys(("InvalidArgument", "InvalidRequest", "InvalidTier", "MalformedXML"), s3.RestoreRefused),
        "GlacierExpeditedRetrievalNotAvailable": s3.NoExpeditedCapacity,
        "ObjectAlreadyInActiveTierError": s3.AlreadyActive,
    }
)
CREDENTIAL_ERRORS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)
OUTAGES = (
    *(boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, boto.ResponseStreamingError),
    *(boto.CredentialRetrievalError, boto.MetadataRetrievalError, ResponseParserError),
    *(CallTooLong, AnswerTooLarge),
)
CERTIFICATE_ERRORS = (ssl.SSLCertVerificationError, CertificateError)
TOLD_CHARACTERS = 300
"""Of what a server says: it goes into notes and logs."""


@dataclass(frozen=True)
class Refusals:
    """What a server's refusals mean for one of its users, in the words of that user's settings."""

    service: str
    """The name of its breaker, e.g. `store:main`."""
    section: str
    """The table of the settings that says where the server is and who we are there, e.g. `store`."""
    bucket_in: str
    """What names the bucket, e.g. `store.url`."""
    permissions: str
    """What our key must be allowed, e.g. `s3:GetObject`."""

    def translate(self, error: Exception, doing: str) -> Exception:
        """The error of ours that one of TRANSLATED stands for; `error` itself if it is a mistake in our own code.

        `doing` is for the operator: "sending part 3 of x.tar".
        """
        cause = error.kwargs.get("error") if isinstance(error, boto.BotoCoreError) else None
        if isinstance(cause, DpnError):  # raised from within, by a body that was sent or a stop
            return cause
        if isinstance(error, boto.ClientError):
            return self._refusal(error, doing)
        if isinstance(error, CREDENTIAL_ERRORS):
            return AccessRefused(
                f"{self.service}: no usable credentials ({_told(error)}): set {self.section}.access_key_id and "
                f"{self.section}.secret_access_key_file, or give this machine a role"
            )
        if isinstance(error, boto.SSLError) and _needs_an_operator(error):
            return Misconfigured(
                f"{self.service}: {doing}: its certificate is not trusted here ({_told(error)}): correct "
                f"{self.section}.endpoint_url, have the certificate renewed, or name the file of its authority in "
                "AWS_CA_BUNDLE"
            )
        if isinstance(error, boto.InvalidRegionError):
            return Misconfigured(
                f"{self.service}: {doing}: it redirects us, to no region ({_told(error)}): "
                + MOVED.format(section=self.section)
            )
        if isinstance(error, boto.FlexibleChecksumError):
            return StoreMismatch(f"{self.service}: {doing}: {_told(error)}")
        if isinstance(error, TIMED_OUT):
            return StoreTimeout(self.service, f"{doing}: {_told(error)}")
        if isinstance(error, OUTAGES):
            return StoreUnavailable(self.service, f"{doing}: {_told(error)}")
        return error

    def _refusal(self, error: boto.ClientError, doing: str) -> DpnError:
        details = error.response.get("Error", {})
        http = error.response.get("ResponseMetadata", {})
        status = int(http.get("HTTPStatusCode", 0))
        code = str(details.get("Code", ""))
        reason = f"{doing}: {_told(code)} {_told(details.get('Message', ''))} (HTTP {status})"
        text = f"{self.service}: {reason}"
        if error.operation_name == RESTORE and (known := _of_a_restore(code, status, text)):
            return known
        if known := self._by_code(code, text):
            return known
        if code in FULL or status == 507:
            return StoreFull(self.service, reason)
        if code in OVERLOADED or status in (408, 429) or (status >= 500 and status != 501):
            return StoreUnavailable(self.service, reason, _retry_after(http.get("HTTPHeaders", {})))
        if status in (412, 416):
            return s3.PreconditionFailed(text)
        if status == 404:
            return errors.StoreMissing(text)
        if known := self._to_correct(BY_STATUS.get(status, ""), text):
            return known
        return TransientError(text)

    def _by_code(self, code: str, text: str) -> DpnError | None:
        if code == "NoSuchBucket":
            return s3.NoBucket(f"{text}: create the bucket or correct {self.bucket_in}")
        if code == "NoSuchUpload":
            return s3.UploadLost(text)
        if code in CHECKSUM_REFUSALS:
            return StoreMismatch(text)
        if code == "InvalidObjectState":
            return errors.StoreCold(f"{text}: ask for its restore first")
        if code == "EntityTooLarge":
            return s3.ObjectTooLarge(text)
        return self._to_correct(code, text)

    def _to_correct(self, code: str, text: str) -> Misconfigured | None:
        if code not in REMEDIES:
            return None
        remedy = REMEDIES[code].format(
            section=self.section, bucket_in=self.bucket_in, permissions=self.permissions
        )
        return (AccessRefused if code in ACCESS else Misconfigured)(f"{text}: {remedy}")


def _of_a_restore(code: str, status: int, text: str) -> DpnError | None:
    if code in RESTORE_REFUSALS:
        return RESTORE_REFUSALS[code](text)
    if code == "AccessDenied" or (status == 403 and code in ("", "403")):
        return Misconfigured(f"{text}: allow the key s3:RestoreObject on the bucket's objects")
    return None


def _needs_an_operator(error: boto.SSLError) -> bool:
    """Whether it is a certificate, and not the connection: trying again will not help."""
    cause = error.kwargs.get("error")  # urllib3's
    ours_cannot_be_read = isinstance(getattr(cause, "__cause__", None), OSError)
    return ours_cannot_be_read or (isinstance(cause, Exception) and isinstance(cause.args[0], CERTIFICATE_ERRORS))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def _told(what: object) -> str:
    """What a stranger said, fit for a log."""
    text = str(what)
    return replaced(text if len(text) <= TOLD_CHARACTERS else f"{text[:TOLD_CHARACTERS]}…", " ")
