"""From what botocore raises to what a caller can act on: wait, repair the settings, send again, give up."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from dpn.errors import DpnError, Misconfigured, StoreMismatch, StoreUnavailable, TransientError
from dpn.storage.errors import ObjectTooLarge, StoreCold, StoreMissing, UploadLost

REMEDIES = {
    "NoSuchBucket": "create the bucket or correct store.url",
    "InvalidBucketName": "correct the bucket's name in store.url",
    "AccessDenied": "allow the key s3:PutObject, s3:GetObject, s3:AbortMultipartUpload, "
    "s3:ListMultipartUploadParts, s3:RestoreObject, and s3:ListBucket on the bucket "
    "(else a missing object looks forbidden)",
    "AllAccessDisabled": "ask the store's operator why the bucket is closed",
    "AccountProblem": "ask the store's operator what is wrong with the account",
    "InvalidAccessKeyId": "correct store.access_key_id",
    "XAdminUserNotFound": "correct store.access_key_id",
    "SignatureDoesNotMatch": "correct store.secret_access_key",
    "ExpiredToken": "renew the credentials",
    "InvalidToken": "renew the credentials",
    "TokenRefreshRequired": "renew the credentials",
    "RequestTimeTooSkewed": "set this machine's clock (NTP)",
    "PermanentRedirect": "correct store.region or store.endpoint_url",
    "AuthorizationHeaderMalformed": "correct store.region",
    "InvalidStorageClass": "correct store.storage_class",
    "400": "renew or correct the credentials, correct store.region or the bucket's name (a HEAD tells no reason)",
    "NotImplemented": "the store lacks what we need of S3",
    "MethodNotAllowed": "the store lacks what we need of S3",
}
BY_STATUS = {301: "PermanentRedirect", 307: "PermanentRedirect", 401: "AccessDenied", 403: "AccessDenied"}
CHECKSUM_REFUSALS = {
    "BadDigest",
    "InvalidPart",
    "InvalidPartOrder",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
OVERLOADED = {
    "SlowDown",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "QuotaExceeded",
    "XMinioStorageFull",
}
RESTORE = "RestoreObject"
CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
OUTAGES = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)


class RestoreUnderWay(TransientError):
    """A restore was asked for before and goes on, or none that is faster can be had."""


class NoExpeditedCapacity(TransientError):
    """No Expedited restore is to be had now. The store is well otherwise."""


class AlreadyActive(TransientError):
    """There is nothing to restore: the object can be read."""


class RestoreRefused(TransientError):
    """The store will not restore this object in the way that was asked for."""


class AlreadyThere(TransientError):
    """The object became visible meanwhile: by another worker, or by a request of ours whose answer was lost."""


RESTORE_REFUSALS: dict[str, type[TransientError]] = {
    "RestoreAlreadyInProgress": RestoreUnderWay,
    "Conflict": RestoreUnderWay,
    "409": RestoreUnderWay,
    "GlacierExpeditedRetrievalNotAvailable": NoExpeditedCapacity,
    "ObjectAlreadyInActiveTierError": AlreadyActive,
    "InvalidArgument": RestoreRefused,
    "InvalidRequest": RestoreRefused,
    "InvalidTier": RestoreRefused,
    "MalformedXML": RestoreRefused,
}


def translate(error: ClientError | BotoCoreError | ResponseParserError, service: str, doing: str) -> Exception:
    """The error of ours that `error` stands for; `error` itself if it is a mistake in our own code."""
    if isinstance(error, ClientError):
        return _refusal(error, service, doing)
    if isinstance(error, CREDENTIAL_ERRORS):
        return Misconfigured(
            f"{service}: no usable credentials ({error}): set store.access_key_id and "
            "store.secret_access_key_file, or give this machine a role"
        )
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Misconfigured(
            f"{service}: its certificate is not trusted here: correct store.endpoint_url ({error})"
        )
    if isinstance(error, OUTAGES):
        return StoreUnavailable(service, f"{doing}: {error}")
    return error


def _refusal(error: ClientError, service: str, doing: str) -> DpnError:
    details = error.response.get("Error", {})
    http = error.response.get("ResponseMetadata", {})
    status = int(http.get("HTTPStatusCode", 0))
    code = str(details.get("Code", ""))
    text = f"{doing}: {code} {details.get('Message', '')} (HTTP {status})"
    if error.operation_name == RESTORE and (known := _by_restore(code, status, f"{service}: {text}")):
        return known
    if known := _by_code(code, f"{service}: {text}"):
        return known
    if code in OVERLOADED or status in (408, 429) or (status >= 500 and status != 501):
        return StoreUnavailable(service, text, _retry_after(http.get("HTTPHeaders", {})))
    if status == 412:
        return AlreadyThere(f"{service}: {text}")
    if status == 404:
        return StoreMissing(f"{service}: {text}")
    if remedy := REMEDIES.get(code) or REMEDIES.get(BY_STATUS.get(status, "")):
        return Misconfigured(f"{service}: {text}: {remedy}")
    return TransientError(f"{service}: {text}")


def _by_code(code: str, text: str) -> DpnError | None:
    if code == "NoSuchUpload":
        return UploadLost(text)
    if code in CHECKSUM_REFUSALS:
        return StoreMismatch(text)
    if code == "InvalidObjectState":
        return StoreCold(f"{text}: ask for its restore first")
    if code == "EntityTooLarge":
        return ObjectTooLarge(text)
    if code in REMEDIES:
        return Misconfigured(f"{text}: {REMEDIES[code]}")
    return None


def _by_restore(code: str, status: int, text: str) -> DpnError | None:
    if code in RESTORE_REFUSALS:
        return RESTORE_REFUSALS[code](text)
    if code == "AccessDenied" or (status == 403 and code in ("", "403")):
        return Misconfigured(f"{text}: allow the key s3:RestoreObject on the bucket's objects")
    return None


def _retry_after(headers: dict[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
