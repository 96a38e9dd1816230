"""`dpn serve`: the registry, and what else this node is asked over HTTP, until SIGTERM or SIGINT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.node import OpenNode, open_broker

if TYPE_CHECKING:  # it takes a second to load
    from dpn.server.runner import Front

EXIT_UNUSABLE = 2


def serve(
    context: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(metavar="SERVICE", help="registry; without, that one.")
    ] = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Where the registry listens; default server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default server.port; 0: any free one.")
    ] = None,
) -> None:
    """Run the services named until told to stop (SIGTERM: answer what was asked, take nothing new)."""
    names = list(dict.fromkeys(services or [REGISTRY]))
    for name in names:
        if name not in SERVICES:
            typer.echo(f"dpn: {name!r} is no service: there is {', '.join(SERVICES)}", err=True)
            raise typer.Exit(EXIT_UNUSABLE)

    from dpn.server.connections import ConnectionLimits
    from dpn.server.runner import run

    with open_node(context, config, "dpn-serve") as node:
        fronts = [SERVICES[name](node, host, port) for name in names]
        here = node.settings.server
        proxies = [ip_network(proxy) for proxy in here.proxies]
        run(*fronts, limits=ConnectionLimits(here.max_connections, here.max_connections_per_address, proxies))


def _registry(node: OpenNode, host: str | None, port: int | None) -> Front:
    """The registry server with its guests, where the settings or the command line say."""
    from dpn.registry.catalogue import ensure_nodes
    from dpn.server.app import create_app
    from dpn.server.deposits.service import deposit_service
    from dpn.server.registry.service import registry_service
    from dpn.server.runner import Front
    from workers.pipelines import PIPELINES

    sessions, settings, clock = node.sessions, node.settings, node.clock
    with sessions.begin() as session:
        ensure_nodes(session, settings.node, settings.peers, now=clock.now())
    registry = registry_service(
        sessions=sessions,
        clock=clock,
        node=settings.node,
        copies=settings.ingest.copies,
        withhold_digests=settings.ingest.withhold_digests,
        server=settings.server,
    )
    deposits = deposit_service(
        sessions=sessions,
        clock=clock,
        namespace=node.namespace,
        source_folders=settings.ingest.source_folders,
        server=settings.server,
        pipelines=PIPELINES,
        announce=partial(_announce, node),
    )
    here = settings.server
    return Front(
        create_app(registry, deposits),
        "server",
        host=host or here.host,
        port=here.port if port is None else port,
        certificate_file=here.certificate_file,
        key_file=here.key_file,
    )


def _announce(node: OpenNode, item: int) -> None:
    from dpn.broker import BrokerUnavailable
    from dpn.work.schedule.dispatch import publish_intents

    try:
        publish_intents(node.sessions, open_broker(node), item_id=item)
    except BrokerUnavailable as error:  # it is accepted: a worker's sweep finds it
        node.log.warning("messages wait for the broker", error=str(error))


REGISTRY = "registry"

SERVICES: dict[str, Callable[[OpenNode, str | None, int | None], Front]] = {REGISTRY: _registry}
"""What can be served, each by the name that the command takes."""
