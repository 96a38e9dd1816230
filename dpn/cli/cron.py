"""`dpn sync`, `dpn queue`, `dpn cleanup`: what cron runs. Exit 1 if any node or item failed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dpn.cli.node import ConfigOption, open_broker, open_node
from dpn.errors import Misconfigured
from workers.pipelines import PIPELINES

if TYPE_CHECKING:
    from workers.sync import PeerResult

EXIT_FAILED = 1
SYNC_COUNTS = ("fetched", "added", "updated", "foreign", "refused")
MAX_HOURS = 1_000_000
"""More than a century: before that, there is nothing to leave out."""

JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]


def sync(
    context: typer.Context,
    config: ConfigOption = None,
    node_name: Annotated[str | None, typer.Option("--node", help="Only this peer.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything again, not only what is new.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pull the records of the other nodes into our registry."""
    from dpn.registry.catalogue import ensure_nodes
    from dpn.registry.client import RegistryClient
    from workers.sync import Sync

    with open_node(context, config, "dpn_sync") as node:
        peers = node.settings.peers
        if node_name is not None and node_name not in peers:
            raise Misconfigured(f"--node {node_name}: no [peers.{node_name}] in {node.config}")
        with node.sessions.begin() as session:
            ensure_nodes(session, node.settings, now=node.clock.now())
        clients = {name: RegistryClient(name, peer) for name, peer in peers.items()}
        results = Sync(clients, node.sessions, node.clock, node.log).run(only=node_name, full=full)
        if as_json:
            print(json.dumps([asdict(result) for result in results]))
        else:
            Console().print(_sync_table(results))
    if not all(result.ok for result in results):
        raise typer.Exit(EXIT_FAILED)


def _hours(hours: float | None) -> float | None:
    if hours is not None and not 0 < hours <= MAX_HOURS:
        raise typer.BadParameter(f"must be more than 0 and at most {MAX_HOURS}: leave it out for all")
    return hours


def queue(
    context: typer.Context,
    config: ConfigOption = None,
    hours: Annotated[
        float | None,
        typer.Option(
            help="Only transfers changed within so many hours; default: all that are open.", callback=_hours
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make work items of the registry's open transfers and announce whatever is due."""
    from workers.queue import Queue

    with open_node(context, config, "dpn_queue") as node:
        result = Queue(
            node.namespace,
            frozenset(node.settings.peers),
            node.sessions,
            open_broker(node),
            PIPELINES,
            node.clock,
            node.log,
        ).run(hours=hours)
        if as_json:
            print(json.dumps(asdict(result)))
        else:
            Console().print(
                f"{result.created} items made, {result.announced} due items announced, "
                f"{result.published} messages published."
            )
    if not result.ok:
        raise typer.Exit(EXIT_FAILED)


def cleanup(context: typer.Context, config: ConfigOption = None) -> None:
    """Release and remove what no item needs any more: reservations, staged bytes, old quarantine, dead uploads."""
    from dpn.ingest.outbound import Outbound
    from dpn.staging import Staging
    from dpn.storage import open_store
    from workers.chores import Chore
    from workers.housekeeping import Housekeeping
    from workers.outbound_cleanup import OutboundCleanup
    from workers.witness import Witness

    failed = []
    with open_node(context, config, "dpn_cleanup") as node:
        settings = node.settings
        staging = Staging(node.sessions, settings.staging, clock=node.clock)
        staging.mount()
        store = open_store(settings.store, clock=node.clock)
        keeping = Housekeeping(
            settings,
            node.sessions,
            open_broker(node),
            staging,
            store,
            PIPELINES,
            "dpn_cleanup",
            Witness(node.clock, longest_gap_seconds=settings.staging.abandon_after_seconds),
            node.clock,
            node.log,
        )
        outbound = OutboundCleanup(
            node.namespace,
            [Outbound(one) for one in settings.ingest.outbound.values()],
            node.sessions,
            node.clock,
            node.log,
        )
        withdraw = Chore("withdraw bags that nobody fetches any more", 0.0, outbound.run)
        for chore in [*keeping.chores(), withdraw]:
            try:
                chore.run()
            except Exception as error:  # noqa: BLE001  (the other chores are still worth doing)
                node.log.error("a chore failed", chore=chore.name, error=repr(error))
                failed.append(chore.name)
    if failed:
        typer.echo(f"dpn: failed: {', '.join(failed)}: see the log", err=True)
        raise typer.Exit(EXIT_FAILED)


def _sync_table(results: list[PeerResult]) -> Table:
    table = Table("peer", "records", *SYNC_COUNTS, "result", box=None)
    for result in results:
        for name, of_type in result.types.items():
            counts = [str(getattr(of_type, count)) for count in SYNC_COUNTS]
            said = of_type.error or ("nothing new" if of_type.nothing_new else "")
            table.add_row(result.peer, name, *counts, escape(said))
        table.add_row(result.peer, *[""] * (1 + len(SYNC_COUNTS)), escape(_sync_summary(result)))
    return table


def _sync_summary(result: PeerResult) -> str:
    parts = [f"complete in {result.seconds} s"]
    if result.error is not None:
        parts = [result.error]
    elif result.failed_types:
        parts = [f"not complete: {', '.join(result.failed_types)}"]
    if result.set_aside:
        parts.append(f"{result.set_aside} set aside: dpn registry aside")
    return "; ".join(parts)
