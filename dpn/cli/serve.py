"""`dpn serve`: the registry server, until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
import uvicorn

from dpn.broker import BrokerUnavailable
from dpn.cli.node import ConfigOption, open_node
from dpn.errors import Misconfigured
from dpn.node import Node, open_broker
from dpn.registry.catalogue import ensure_nodes
from dpn.server.app import create_app
from dpn.server.deposits import serve_deposits
from dpn.telemetry.readiness import notify_systemd
from dpn.work.dispatch import publish_intents
from workers.pipelines import PIPELINES

STOP_SECONDS = 30
"""How long requests that run may still take once we are told to stop."""

KEEP_ALIVE_SECONDS = 30


def serve(
    context: typer.Context,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; default server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default server.port; 0: any free one.")
    ] = None,
) -> None:
    """Run the registry server until told to stop (SIGTERM: answer what was asked, take nothing new)."""
    with open_node(context, config, "dpn-serve") as node:
        with node.sessions.begin() as session:
            ensure_nodes(session, node.settings.node, node.settings.peers, now=node.clock.now())
        settings = node.settings.server
        with _listen(host or settings.host, settings.port if port is None else port) as listener:
            _Server(node).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        why = error.strerror or str(error)
        raise Misconfigured(
            f"cannot listen on {host}:{port} ({why}): free it, or change server.host or server.port"
        ) from error
    # asyncio would set it on a listener of its own; without it each answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _announce(node: Node, item: int) -> None:
    try:
        publish_intents(node.sessions, open_broker(node), item_id=item)
    except BrokerUnavailable as error:  # it is accepted: a worker's sweep finds it
        node.log.warning("messages wait for the broker", error=str(error))


class _Server(uvicorn.Server):
    """uvicorn, which here ends with exit status 0 when it was asked to stop, and tells when it is ready."""

    def __init__(self, node: Node) -> None:
        app = create_app(node.sessions, node.settings, node.clock)
        serve_deposits(app, PIPELINES, lambda item: _announce(node, item))
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._node = node

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            address, port = listener.getsockname()[:2]
            self._node.log.info("serving", address=address, port=port)
        notify_systemd("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify_systemd("STOPPING=1")
        await super().shutdown(sockets)
        self._node.log.info("stopped serving")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but without raising the signal again once everything has ended well."""
        asked_to_stop = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked_to_stop}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
