"""One call to a peer's server: bounded in time and bytes, to that server only, repeated only where it is safe."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from dpn.clock import Clock
from dpn.errors import Misconfigured, PeerUnavailable
from dpn.registry.client.answers import Answer, NoAnswer, excerpt, http_date, nonsense, value_of
from dpn.registry.client.bounds import AnswerTooLarge, BoundedAdapter, Bounds, CallTooLong, bounded
from dpn.settings import PeerSettings

USER_AGENT = "dpn-registry-client"
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


class PeerCalls:
    """Calls to one peer over one session. Any number of threads may use it at once."""

    def __init__(
        self,
        peer: str,
        settings: PeerSettings,
        *,
        clock: Clock,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.peer = peer
        self._settings = settings
        self._clock = clock
        self._max_answer_bytes = max_answer_bytes
        self._pause = pause
        self._session = _session(settings)
        self.time_there: datetime | None = None
        """What the peer's clock showed when it last answered a GET; none where it does not tell."""

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The JSON that the peer answers with."""
        value, _ = self.get_with_headers(path, parameters)
        return value

    def get_with_headers(
        self, path: str, parameters: Mapping[str, str] | None = None
    ) -> tuple[Any, Mapping[str, str]]:
        """The JSON that the peer answers with, and the headers (found by name whatever their case)."""
        answer = self._call("GET", path, parameters or {}, None)
        self.time_there = http_date(answer.headers.get("date"))
        return self._value_of(answer), answer.headers

    def put(self, path: str, value: Mapping[str, Any]) -> Any:
        """The JSON that the peer answers with. Sent once: whether it arrived is for the caller to find out."""
        answer = self._call("PUT", path, {}, json.dumps(value).encode())
        return self._value_of(answer)

    def nonsense(self, reason: str) -> PeerUnavailable:
        """What to raise for an answer that the peer's registry would not give."""
        return nonsense(self.peer, reason)

    def _value_of(self, answer: Answer) -> Any:
        if answer.status == 401:
            here = f"peers.{self.peer}"
            raise Misconfigured(
                f"{self.peer} does not accept our token (HTTP 401): have it issue one and put it in {here}; if it "
                f'is the right one, try another {here}.authorization than "{self._settings.authorization}"'
            )
        return value_of(self.peer, answer, self._clock)

    def close(self) -> None:
        self._session.close()

    def _no_answer(self, reason: str) -> NoAnswer:
        return NoAnswer(f"peer:{self.peer}", reason)

    def _call(self, method: str, path: str, parameters: Mapping[str, str], body: bytes | None) -> Answer:
        settings = self._settings
        until = self._clock.monotonic() + settings.total_timeout_seconds
        limits = Bounds(self._clock.monotonic, until, self._max_answer_bytes)
        query = f"?{urlencode(parameters)}" if parameters else ""
        url = f"{settings.api_root}/api-v2/{path}{query}"
        try:
            with bounded(limits):
                return self._follow(method, url, body, limits)
        except CallTooLong as error:
            raise self._no_answer(f"no whole answer in {settings.total_timeout_seconds:g} seconds") from error
        except AnswerTooLarge as error:
            raise self.nonsense(f"an answer of more than {self._max_answer_bytes} bytes") from error

    def _follow(self, method: str, url: str, body: bytes | None, limits: Bounds) -> Answer:
        """The answer, after redirects. None leads elsewhere: a peer does not choose whom we call."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._try(method, url, body, limits)
            allowed = MOVED if method == "GET" else MOVED_WITH_ITS_BODY
            if answer.status not in allowed:
                return answer
            target = _target(url, answer.headers.get("location", ""))
            if _origin(target) != _origin(url):
                raise self.nonsense(
                    f"it redirects to {excerpt(target)}: if it has moved there, change peers.{self.peer}.api_root"
                )
            url = target
        raise self.nonsense(f"more than {MAX_REDIRECTS} redirects")

    def _try(self, method: str, url: str, body: bytes | None, limits: Bounds) -> Answer:
        tries = TRIES if method == "GET" else 1
        for number in range(1, tries + 1):
            try:
                return self._send(method, url, body, limits)
            except requests.Timeout as error:
                raise self._no_answer("it does not answer in time") from error
            except requests.exceptions.SSLError as error:
                raise self.nonsense(f"its certificate or TLS is not right: {_cause(error)}") from error
            except RequestException as error:
                if number == tries:
                    raise self._no_answer(f"it cannot be reached: {_cause(error)}") from error
            self._pause(PAUSE_SECONDS)
        raise AssertionError("unreachable: the last try returns or raises")

    def _send(self, method: str, url: str, body: bytes | None, limits: Bounds) -> Answer:
        settings = self._settings
        timeouts = (min(settings.connect_timeout_seconds, limits.seconds_left()), settings.read_timeout_seconds)
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
        except OSError as error:
            if isinstance(error, RequestException):
                raise
            raise Misconfigured(f"peers.{self.peer}.ca_file cannot be used: {error}") from error
        with response:
            try:
                parts = [*response.raw.stream(READ_BYTES, decode_content=False)]
            except (HTTPError, HTTPException, ValueError) as error:  # ValueError: chunks of less than nothing
                raise self.nonsense(f"its answer breaks off: {_cause(error)}") from error
            return Answer(response.status_code, response.headers, b"".join(parts))

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Authorization": SCHEMES[self._settings.authorization] + self._token()}
        return headers if body is None else headers | {"Content-Type": "application/json"}

    def _token(self) -> str:
        """Read anew for each call, so that a token can be replaced while we run."""
        token = self._settings.secret()
        if not TOKEN.match(token):
            raise Misconfigured(f"peers.{self.peer}: the token is empty or has characters that no token has")
        return token


class _Session(requests.Session):
    """Leaves redirects to us altogether: requests would read and interpret them even when told not to follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _session(settings: PeerSettings) -> requests.Session:
    """Nothing from the environment: no proxy, no netrc, no other CA bundle; no cookies."""
    session = _Session()
    session.trust_env = False
    session.verify = str(settings.ca_file) if settings.ca_file else True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"})
    adapter = BoundedAdapter()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _target(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:  # an address that is none: it has no origin, and is shown as it came
        return location


def _origin(url: str) -> tuple[str, str, int] | None:
    """Whom an address calls; none where it cannot be called, or would bring a name and password of its own."""
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
