"""What every service is to those who start and stop it."""

from __future__ import annotations

import json
import secrets
import signal
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tools.services import ports
from tools.services.process import Launch

ANSWER_SECONDS = 5.0
"""How long a service on this machine may take to answer one question."""


class NotReady(Exception):
    """The service does not answer as it should yet; the text says what was asked and what came."""


class StartFailed(Exception):
    """The service could not be started; the text says why and ends with the last lines of its log."""


@dataclass
class Home:
    """One service's place in DIR: its folder, and what it keeps from one start to the next."""

    name: str
    path: Path
    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The entries of the services that run already."""

    def secret(self, name: str) -> str:
        """A random word that stays the same as long as DIR does."""
        return self.secrets.setdefault(name, secrets.token_hex(16))

    def folder(self, *names: str) -> Path:
        """A folder below this one, made if need be."""
        path = self.path.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def address(self, port: str) -> str:
        """host:port of one of our ports."""
        return f"{ports.LOOPBACK}:{self.ports[port]}"


class Service(ABC):
    """One kind of server."""

    name: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    """Services that must be started before."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    listens_in_a_child: ClassVar[bool] = False
    """Whether what we start is a script that starts the server."""

    @abstractmethod
    def prepare(self, home: Home) -> Launch:
        """Writes what the server reads and says how to start it. Raises MissingProgram, StartFailed."""

    @abstractmethod
    def entry(self, home: Home) -> dict[str, Any]:
        """What services.json says of it, but for the process."""

    @abstractmethod
    def check(self, entry: dict[str, Any]) -> None:
        """Really talks to it. Raises NotReady."""


def http_get(address: str, path: str, headers: Mapping[str, str] | None = None) -> str:
    """The body of an answer with status 200. Raises NotReady."""
    url = f"http://{address}{path}"
    try:
        request = urllib.request.Request(url, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            body: bytes = answer.read(1_000_000)
            return body.decode()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise NotReady(f"GET {url}: {error}") from error


def http_json(address: str, path: str) -> Any:
    """The JSON document of an answer with status 200. Raises NotReady."""
    body = http_get(address, path)
    try:
        return json.loads(body)
    except ValueError as error:
        raise NotReady(f"GET http://{address}{path}: not JSON: {body[:100]}") from error
