"""One call to a peer's server: bounded in time and bytes, to that server only, repeated only where it is safe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from dpn.clock import Clock
from dpn.errors import Misconfigured, PeerUnavailable
from dpn.http_bounds import AnswerTooLarge, Bounds, CallTooLong, bounded
from dpn.registry.client.answers import NoAnswer, Received, excerpt, http_date, nonsense, reason_in, value_of
from dpn.registry.settings import RegistryAccess
from dpn.setting_types import SettingsError

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""A page of 100 bags that each list a thousand nodes and rights would be smaller."""

MAX_REDIRECTS = 5
READ_BYTES = 65_536
TRIES = 2
"""Of what only reads, and only where no answer came at all: the peer may just have closed an idle connection."""

PAUSE_SECONDS = 0.2
TOKEN = re.compile(r"[!#-+\--~]+\Z")
"""Printable ASCII without blank, quote and comma: what stands in a header as it is."""

SCHEMES = {"token-parameter": "Token token=", "token": "token "}
"""What stands before the token: the real server's form, and the specification's."""

MOVED = frozenset({301, 302, 303, 307, 308})
MOVED_WITH_ITS_BODY = frozenset({307, 308})


class PeerAnswer(NamedTuple):
    """The JSON in a good answer, and its headers (found by name whatever their case)."""

    value: Any
    headers: Mapping[str, str]


class _Unreached(NoAnswer):
    """Nothing came back: where nothing was asked to change, it may be asked again."""


class PeerCalls:
    """Calls to one peer over one session. Any number of threads may use it at once."""

    def __init__(
        self,
        peer: str,
        settings: RegistryAccess,
        *,
        clock: Clock,
        session: requests.Session,
        pause: Callable[[float], None],
        max_answer_bytes: int,
    ) -> None:
        self.peer = peer
        self._service = f"peer:{peer}"
        self._settings = settings
        self._clock = clock
        self._session = session
        self._max_answer_bytes = max_answer_bytes
        self._pause = pause
        self.time_there: datetime | None = None
        """What the peer's clock showed when it last answered a GET; None where it does not tell."""
        self.bytes_read = 0
        """Of the bodies of all answers so far."""

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> PeerAnswer:
        """What the peer answers with."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = self._exchange("GET", path + query, None)
        self.time_there = http_date(answer.headers.get("date"))
        return PeerAnswer(self._value_of(answer), answer.headers)

    def put(self, path: str, value: Mapping[str, Any]) -> Any:
        """The JSON that the peer answers with. Sent once: whether it arrived is for the caller to find out."""
        return self._value_of(self._exchange("PUT", path, json.dumps(value).encode()))

    def nonsense(self, reason: str) -> PeerUnavailable:
        """What to raise for an answer that the peer's registry would not give."""
        return nonsense(self.peer, reason)

    def close(self) -> None:
        self._session.close()

    def _value_of(self, answer: Received) -> Any:
        if answer.status == 401:
            here = f"peers.{self.peer}"
            raise Misconfigured(
                f"{self.peer} does not accept our token (HTTP 401: {reason_in(answer.body)}): have it issue one "
                f"and put it in {here}; if it is the right one, try another {here}.authorization than "
                f'"{self._settings.authorization}"'
            )
        return value_of(self.peer, answer, self._clock)

    def _exchange(self, method: str, address: str, body: bytes | None) -> Received:
        """The answer, after redirects and, where it only reads, another try."""
        url = f"{self._settings.api_root}/api-v2/{address}"
        redirects = tries = 0
        with self._in_bounds() as bounds:
            while True:
                try:
                    answer = self._send(method, url, body, bounds)
                except _Unreached:
                    tries += 1
                    if method != "GET" or tries == TRIES:
                        raise
                    self._pause(PAUSE_SECONDS)
                    continue
                if answer.status not in (MOVED if method == "GET" else MOVED_WITH_ITS_BODY):
                    return answer
                url, tries = self._target(url, answer.headers.get("location", "")), 0
                redirects += 1
                if redirects > MAX_REDIRECTS:
                    raise self.nonsense(f"more than {MAX_REDIRECTS} redirects")

    @contextmanager
    def _in_bounds(self) -> Iterator[Bounds]:
        """What one call may use, all its tries and redirects together."""
        seconds = self._settings.total_timeout_seconds
        bounds = Bounds(self._clock.monotonic, self._clock.monotonic() + seconds, self._max_answer_bytes)
        try:
            with bounded(bounds):
                yield bounds
        except CallTooLong as error:
            raise NoAnswer(self._service, f"no whole answer in {seconds:g} seconds") from error
        except AnswerTooLarge as error:
            raise self.nonsense(f"an answer of more than {self._max_answer_bytes} bytes") from error

    def _send(self, method: str, url: str, body: bytes | None, bounds: Bounds) -> Received:
        settings = self._settings
        timeouts = (min(settings.connect_timeout_seconds, bounds.seconds_left()), settings.read_timeout_seconds)
        try:
            response = self._session.request(
                method,
                url,
                data=body,
                headers=self._headers(body),
                timeout=timeouts,
                stream=True,
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise NoAnswer(self._service, "it does not answer in time") from error
        except requests.exceptions.SSLError as error:
            raise self.nonsense(f"its certificate or TLS is not right: {_cause(error)}") from error
        except RequestException as error:
            raise _Unreached(self._service, f"it cannot be reached: {_cause(error)}") from error
        except OSError as error:
            raise Misconfigured(f"peers.{self.peer}.ca_file cannot be used: {error}") from error
        with response:
            try:
                parts = [*response.raw.stream(READ_BYTES, decode_content=False)]
            except (HTTPError, HTTPException, ValueError) as error:  # ValueError: chunks of less than nothing
                raise self.nonsense(f"its answer breaks off: {_cause(error)}") from error
            text = b"".join(parts)
            self.bytes_read += len(text)
            return Received(response.status_code, response.headers, text)

    def _target(self, url: str, location: str) -> str:
        """Where a redirect leads: nowhere else. A peer does not choose whom we call."""
        target = _joined(url, location)
        if _origin(target) != _origin(url):
            raise self.nonsense(
                f"it redirects to {excerpt(target)}: if it has moved there, change peers.{self.peer}.api_root"
            )
        return target

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Authorization": SCHEMES[self._settings.authorization] + self._token()}
        return headers if body is None else headers | {"Content-Type": "application/json"}

    def _token(self) -> str:
        """Read anew for each call, so that a token can be replaced while we run."""
        try:
            token = self._settings.secret()
        except SettingsError as error:
            raise SettingsError(f"peers.{self.peer}.{error}") from error
        if not TOKEN.match(token):
            raise Misconfigured(f"peers.{self.peer}: the token is empty or has characters that no token has")
        return token


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:  # an address that is none: it has no origin, and is shown as it came
        return location


def _origin(url: str) -> tuple[str, str, int] | None:
    """Whom an address calls; None where it cannot be called, or would bring a name and password of its own."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return None if parts.username is not None else (parts.scheme, parts.hostname or "", port)


def _cause(error: BaseException) -> str:
    """The innermost words of an error that libraries have wrapped several times."""
    inner = error
    while isinstance(deeper := getattr(inner, "reason", None) or inner.__context__, BaseException):
        inner = deeper
    return excerpt(str(inner)) or type(inner).__name__
