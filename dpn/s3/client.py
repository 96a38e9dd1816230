"""Opens botocore's client, so that nothing a server answers costs more than it may, or comes out as nonsense."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParser, ResponseParserError, ResponseParserFactory
from botocore.utils import parse_timestamp

from dpn.errors import Misconfigured
from dpn.http_bounds import bounded_pools
from dpn.s3.limits import AnswerLimits
from dpn.s3.settings import S3Access
from dpn.setting_types import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def open_client(access: S3Access, *, section: str, max_connections: int, limits: AnswerLimits) -> S3Client:
    """A client that asks nothing yet; its requests are to be held to bounds (dpn.http_bounds).

    Raises Misconfigured, which names the `section` of the settings.
    """
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    parsers = _Parsers()
    parsers.set_parser_defaults(timestamp_parser=_utc)
    session.register_component("response_parser_factory", parsers)
    try:
        client: Any = session.create_client(
            "s3",
            endpoint_url=access.endpoint_url,
            region_name=access.region,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret(),
            config=_config(access, max_connections),
        )
    except SettingsError as error:
        raise SettingsError(f"{section}.{error}") from error
    except (BotoCoreError, ValueError) as error:
        raise Misconfigured(f"{section}: {error}: correct these settings") from error
    # In the dictionary that botocore makes all its pools by, those of proxies too.
    pools = client._endpoint.http_session._pool_classes_by_scheme
    pools.update(bounded_pools(AWSHTTPConnectionPool, AWSHTTPSConnectionPool))
    events = client.meta.events
    # A HEAD of the bucket is how botocore looks for its region: redirected, too, it would look for ever.
    events.register("before-call.s3.HeadBucket", _follow_no_redirect)
    events.register_last("before-call.s3", _ask_not_first)
    events.register("before-parse.*.*", _Judge(limits))  # the widest pattern is called first
    return cast("S3Client", client)


@cache
def _loader() -> Loader:
    """What describes the service is read once in a process: for every client anew it takes a tenth of a second."""
    return create_loader()


def _config(access: S3Access, max_connections: int) -> Config:
    return Config(
        connect_timeout=access.connect_timeout_seconds,
        read_timeout=access.read_timeout_seconds,
        # Retries are ours: botocore sleeps where a stop cannot wake it, and would send a whole body again for one.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # We send a checksum of our own with everything that matters; stores differ in which others they take.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=max_connections,
        tcp_keepalive=True,
        s3={
            # The part's SHA-256 is in a signed header of its own: hashing the body once more proves nothing new.
            "payload_signing_enabled": False,
            "addressing_style": "path" if access.endpoint_url else "auto",
        },
    )


class _Judge:
    """Looks at an answer's XML before anything parses it: what is no S3 server's is not worth the memory."""

    def __init__(self, limits: AnswerLimits) -> None:
        self._limits = limits

    def __call__(self, response_dict: dict[str, Any], **_: Any) -> None:
        body = response_dict["body"]
        if not isinstance(body, bytes):  # an object's bytes, which are read piece by piece
            return
        if response_dict["status_code"] >= 300:
            if self._fault(body):
                response_dict["body"] = b""  # the status is told, and suffices
        elif fault := self._fault(body):
            raise ResponseParserError(f"it answers with {fault}: is it an S3 server?")

    def _fault(self, body: bytes) -> str | None:
        if b"<!DOCTYPE" in body:  # of XML, where entities could be defined that grow without end; or of a web page
            return "a web page, or XML of a kind that S3 does not use"
        if body.count(b"<") + body.count(b"=") > self._limits.answer_marks:
            return f"more than {self._limits.answer_marks:,} elements and attributes"
        return None


class _Parsers(ResponseParserFactory):
    """botocore's parsers; what they cannot make sense of is the answer's fault, whatever they raise then."""

    def create_parser(self, protocol_name: str) -> ResponseParser:
        return cast("ResponseParser", _Parser(super().create_parser(protocol_name)))


class _Parser:
    def __init__(self, parser: ResponseParser) -> None:
        self._parser = parser

    def parse(self, response: Mapping[str, Any], shape: Any) -> Any:
        try:
            return self._parser.parse(response, shape)
        except ResponseParserError:
            raise
        except Exception as error:
            raise ResponseParserError(f"its answer makes no sense: {error!r}") from error


def _utc(value: Any) -> datetime:
    """A time in an answer, if it is one."""
    time: datetime = parse_timestamp(value)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _ask_not_first(params: dict[str, Any], **_: Any) -> None:
    """A body that was given as bytes is small: to wait for the server to want it takes longer than to send it."""
    if isinstance(params.get("body"), BytesIO):
        params.get("headers", {}).pop("Expect", None)


def _follow_no_redirect(context: dict[str, Any], **_: Any) -> None:
    context.setdefault("s3_redirect", {})["redirected"] = True
