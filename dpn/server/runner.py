"""Runs servers until the process is told to stop: uvicorn, with TLS if asked, and bounds to what clients may take.

A client has HEAD_SECONDS and HEAD_BYTES for the head of each request, and FLUSH_SECONDS to take what is left of
the last answer; what is read of its body is the service's to bound. Connections are bounded, and so are the lines
that strangers can have logged. On SIGTERM or SIGINT what was asked is answered, and nothing new is taken.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dpn.errors import Misconfigured
from dpn.server.connections import ClientConnection, ConnectionLimits, Connections, Listener
from dpn.setting_types import require_file
from dpn.telemetry.readiness import notify_systemd
from dpn.telemetry.repeats import BoundedWarnings

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

STOP_SECONDS = 30
"""How long requests that run may still take once we are told to stop."""

KEEP_ALIVE_SECONDS = 30
HEAD_SECONDS = 30.0
HEAD_BYTES = 65_536
FLUSH_SECONDS = 60.0
BACKLOG = 2048

OTHER_FILES = 200
"""What the process may have open besides connections: its database's, logs, what libraries read."""

WARNINGS, WARNING_SECONDS = 10, 60.0
"""So many lines of each warning or error in so long."""


@dataclass(frozen=True)
class Front:
    """A server and where it listens; `section` names the settings that say so."""

    app: ASGIApp
    section: str
    host: str
    port: int
    certificate_file: Path | None = None
    """With it and `key_file` it speaks TLS (1.2 or newer): PEM, the server's own certificate first."""

    key_file: Path | None = None


def run(*fronts: Front, limits: ConnectionLimits) -> None:
    """Serves all of them until the process is told to stop. Raises Misconfigured before any of them serves."""
    _allow_files(limits.most)
    for handler in logging.getLogger().handlers:
        handler.addFilter(BoundedWarnings(WARNINGS, WARNING_SECONDS))
    connections = Connections(limits)
    proxies = [str(network) for network in limits.proxies]
    with ExitStack() as open_listeners:
        listeners = [open_listeners.enter_context(Listener(_listen(front), connections)) for front in fronts]
        all_listen = asyncio.Barrier(len(fronts))
        servers = [_Server(front, all_listen, connections, proxies) for front in fronts]
        asyncio.run(_serve(servers, listeners))
    log.info("stopped serving")


async def _serve(servers: Sequence[_Server], listeners: Sequence[socket.socket]) -> None:
    def stop(number: int) -> None:
        notify_systemd("STOPPING=1")
        for server in servers:
            server.handle_exit(number, None)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    async with asyncio.TaskGroup() as running:
        for server, listener in zip(servers, listeners, strict=True):
            running.create_task(server.serve([listener]))


def _allow_files(connections: int) -> None:
    """Raises this process's own limit of open files where it would not do for so many connections."""
    wanted = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < wanted:
        raise Misconfigured(
            f"server.max_connections is {connections}, but this process may open {hard} files: let it open "
            f"{wanted} (LimitNOFILE, ulimit -n), or set at most {max(hard - OTHER_FILES, 0)}"
        )
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(front: Front) -> socket.socket:
    family = socket.AF_INET6 if ":" in front.host else socket.AF_INET
    try:
        listener = socket.create_server((front.host, front.port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = error.strerror or str(error)
        here = front.section
        raise Misconfigured(
            f"cannot listen on {front.host}:{front.port} ({why}): free it, or change {here}.host or {here}.port"
        ) from error
    # asyncio would set it on a listener of its own; without it each answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _tls(front: Front) -> ssl.SSLContext | None:
    if front.certificate_file is None:
        return None
    require_file(front.certificate_file, f"{front.section}.certificate_file")
    if front.key_file is not None:
        require_file(front.key_file, f"{front.section}.key_file")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(
            front.certificate_file, front.key_file, password=""
        )  # else it asks at the terminal
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        here = front.section
        raise Misconfigured(
            f"{here}.certificate_file and {here}.key_file cannot be used together ({error}): they must be a "
            "certificate and its own private key without a pass phrase, both as PEM"
        ) from error
    return context


class _Server(uvicorn.Server):
    """uvicorn's, which leaves signals to `run`, and begins when all listen."""

    def __init__(
        self, front: Front, all_listen: asyncio.Barrier, connections: Connections, proxies: list[str]
    ) -> None:
        self._all_listen = all_listen
        context = _tls(front)
        config = uvicorn.Config(
            front.app,
            http=partial(_HttpProtocol, connections),  # type: ignore[arg-type]
            h11_max_incomplete_event_size=HEAD_BYTES,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            address, port = listener.getsockname()[:2]
            log.info("serving", address=address, port=port)
        if await self._all_listen.wait() == 0:
            notify_systemd("READY=1")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _HttpProtocol(H11Protocol):
    """One connection. Its client has so much time for the head of a request, from the connection or its first byte
    on, and to take an answer: uvicorn alone would wait for ever."""

    _overdue: asyncio.TimerHandle | None = None
    _connection: ClientConnection | None = None

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connections = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection = self._connections.by_descriptor(transport.get_extra_info("socket").fileno())
        self._watch_the_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note_whether_busy()
        self._watch_the_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note_whether_busy()
        self._end_a_flush_without_end()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._end_a_flush_without_end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def _note_whether_busy(self) -> None:
        if self._connection is not None:  # it was closed meanwhile
            busy = self.cycle is not None and not self.cycle.response_complete
            self._connections.note(self._connection, busy=busy)

    def _end_a_flush_without_end(self) -> None:
        if self.transport.is_closing():
            self.loop.call_later(FLUSH_SECONDS, self.transport.abort)

    def _watch_the_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _stop_watching(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
