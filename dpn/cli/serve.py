"""`dpn serve`: the registry, and what else this node is asked over HTTP, until SIGTERM or SIGINT."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_network
from typing import Annotated

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.node import OpenNode, open_broker


def serve(
    context: typer.Context,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; default server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default server.port; 0: any free one.")
    ] = None,
) -> None:
    """Run the registry server until told to stop (SIGTERM: answer what was asked, take nothing new)."""
    from dpn.registry.catalogue import ensure_nodes
    from dpn.server.app import create_app
    from dpn.server.connections import ConnectionLimits
    from dpn.server.deposits.service import deposit_service
    from dpn.server.registry.service import registry_service
    from dpn.server.runner import Front, run
    from workers.pipelines import PIPELINES

    with open_node(context, config, "dpn-serve") as node:
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
        app = create_app(registry, deposits)
        here = settings.server
        front = Front(
            app,
            "server",
            host=host or here.host,
            port=here.port if port is None else port,
            certificate_file=here.certificate_file,
            key_file=here.key_file,
        )
        proxies = [ip_network(proxy) for proxy in here.proxies]
        run(front, limits=ConnectionLimits(here.max_connections, here.max_connections_per_address, proxies))


def _announce(node: OpenNode, item: int) -> None:
    from dpn.broker import BrokerUnavailable
    from dpn.work.dispatch import publish_intents

    try:
        publish_intents(node.sessions, open_broker(node), item_id=item)
    except BrokerUnavailable as error:  # it is accepted: a worker's sweep finds it
        node.log.warning("messages wait for the broker", error=str(error))
