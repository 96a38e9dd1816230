"""`dpn sync`, `dpn queue`, `dpn cleanup`: what cron runs. Exit 1 if any node or item failed."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dpn.cli.node import ConfigOption, open_node
from dpn.cli.tables import print_reconciliation, print_sync
from dpn.errors import Misconfigured
from dpn.node import OpenNode, open_broker
from workers.pipelines import PIPELINES

if TYPE_CHECKING:
    from workers.queue import Queue, QueueResult

EXIT_FAILED = 1
MAX_HOURS = 1_000_000
"""More than a century: before that, there is nothing to leave out."""

JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]


def sync(
    context: typer.Context,
    config: ConfigOption = None,
    node_name: Annotated[str | None, typer.Option("--node", help="Only this peer.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything again, not only what is new.")] = False,
    reconcile: Annotated[
        bool,
        typer.Option("--reconcile", help="Then compare all open transfers with their owners' and our work items."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pull the records of the other nodes into our registry."""
    from dpn.registry.catalogue import ensure_nodes
    from dpn.registry.client import RegistryClient
    from workers.reconcile.reconcile import Reconcile
    from workers.sync.sync import Sync

    with open_node(context, config, "dpn_sync") as node:
        peers = node.settings.peers
        if node_name is not None and node_name not in peers:
            raise Misconfigured(f"--node {node_name}: no [peers.{node_name}] in {node.config}")
        with node.sessions.begin() as session:
            ensure_nodes(session, node.settings.node, node.settings.peers, now=node.clock.now())
        clients = {name: RegistryClient(name, peer) for name, peer in peers.items()}
        results = Sync(clients, node.sessions, node.clock, node.log).run(only=node_name, full=full)
        ok = all(result.ok for result in results)
        said: object = [asdict(result) for result in results]
        if not as_json:
            print_sync(results)
        if reconcile:
            reconciled = Reconcile(node.namespace, clients, node.sessions, PIPELINES, node.clock, node.log).run(
                only=node_name
            )
            queued = _queue(node).run()
            ok = ok and queued.ok and all(result.ok for result in reconciled)
            of_all = [asdict(result) for result in reconciled]
            said = {"sync": said, "reconciliation": of_all, "queue": asdict(queued)}
            if not as_json:
                print_reconciliation(reconciled)
                print(_queue_summary(queued))
        if as_json:
            print(json.dumps(said))
    if not ok:
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
    """Make work items of open transfers, of bags that other nodes ask back and of fixity checks whose time has
    come; announce whatever is due."""
    with open_node(context, config, "dpn_queue") as node:
        result = _queue(node).run(hours=hours)
        if as_json:
            print(json.dumps(asdict(result)))
        else:
            print(_queue_summary(result))
    if not result.ok:
        raise typer.Exit(EXIT_FAILED)


def _queue(node: OpenNode) -> Queue:
    from workers.queue import Queue

    peers = frozenset(node.settings.peers)
    settings = node.settings
    return Queue(
        node.namespace,
        peers,
        node.sessions,
        open_broker(node),
        PIPELINES,
        node.clock,
        node.log,
        settings.fixity,
        settings.restore,
        settings.recovery.prove_within_days,
    )


def _queue_summary(result: QueueResult) -> str:
    unknown = result.unknown_peers.items()
    return (
        f"{result.created} items made, {result.closed} closed, {result.checks_begun} fixity checks begun, "
        f"{result.proofs_begun} new copies at other nodes drilled, "
        f"{result.restores_declined} restores declined, {result.requests_withdrawn} requests withdrawn, "
        f"{result.announced} due items announced, {result.published} messages published."
        + "".join(f"\n{count} open requests of {peer}: no [peers.{peer}]" for peer, count in unknown)
        + "".join(f"\n{error}" for error in result.errors)
    )


def cleanup(context: typer.Context, config: ConfigOption = None) -> None:
    """Release and remove what no item needs any more: reservations, staged bytes, old quarantine, dead uploads,
    offers. Count anew what lists hold."""
    from dpn.outbound.folder import Outbound
    from dpn.outbound.withdrawal import OutboundCleanup
    from dpn.storage.ownership.own_store import open_own_store
    from dpn.work.breakers import Breakers
    from workers.runner.chores import Chore
    from workers.runner.process import housekeeping
    from workers.runner.services import Services, breaker_policy

    failed = []
    with open_node(context, config, "dpn_cleanup") as node:
        settings = node.settings
        breakers = Breakers(node.sessions, breaker_policy(settings.work), clock=node.clock, jitter=random.random)
        services = Services(node, pipelines=PIPELINES, breakers=breakers)
        staging = services.staging if settings.staging.volumes else None
        store = None
        if settings.store is not None:
            store = open_own_store(settings.store, node=node.namespace, sessions=node.sessions, clock=node.clock)
        keeping = housekeeping(services, "dpn_cleanup", staging, store)
        outbound = OutboundCleanup(
            node.namespace,
            [Outbound(one) for one in settings.ingest.outbound.values()],
            node.sessions,
            node.clock,
            node.log,
        )
        own = [
            Chore("withdraw bags that nobody fetches any more", 0.0, outbound.run),
            Chore("count what lists hold", 0.0, partial(_recount, node)),
        ]
        for chore in [*keeping.chores(), *own]:
            try:
                chore.run()
            except Exception as error:  # noqa: BLE001  (the other chores are still worth doing)
                node.log.error("a chore failed", chore=chore.name, error=repr(error))
                failed.append(chore.name)
    if failed:
        typer.echo(f"dpn: failed: {', '.join(failed)}: see the log", err=True)
        raise typer.Exit(EXIT_FAILED)


def _recount(node: OpenNode) -> None:
    """What lists hold is kept with every change; this sees that it is true, whatever was done to the database."""
    from dpn.registry.catalogue import totals

    with node.sessions.begin() as session:
        corrected = {kind: number for kind, number in totals.recount(session).items() if number}
    if corrected:
        node.log.error(
            "what lists hold was wrong, and is corrected: who changes the database?", corrected=corrected
        )
