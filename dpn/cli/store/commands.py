"""`dpn store …`: the long-term store as a whole."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpn.cli.node import ConfigOption, open_node

if TYPE_CHECKING:
    from dpn.errors import Interrupted

EXIT_FAILED = 1

app = typer.Typer(help="The long-term store as a whole.", no_args_is_help=True, add_completion=False)


@app.command()
def mark(context: typer.Context, config: ConfigOption = None) -> None:
    """Make what `store.url` names our store, by giving it a new marker: a new disk that takes the old one's place.

    Copies that are not in it are lost: the next check of each says so. Refuses the store of another node or name.
    """
    from dpn.storage.ownership.marker import Ownership
    from dpn.storage.stores import open_store

    with open_node(context, config, "dpn-store") as node:
        settings = node.settings.needed_store()
        ownership = Ownership(node.namespace, settings.name, node.sessions, node.clock)
        marker = ownership.mark(open_store(settings, clock=node.clock))
        node.log.warning("store marked", store=settings.name, url=settings.url, marker=str(marker))
    typer.echo(f"{settings.url} is store {settings.name} of node {node.namespace} now")


@app.command()
def adopt(
    context: typer.Context,
    bags: Annotated[
        list[str] | None,
        typer.Argument(help="Only these; else all that we know no copy of.", metavar="[UUID]…"),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="Where bags of an s3 store are read, one at a time: room for the largest.",
            metavar="DIR",
            exists=True,
            file_okay=False,
            writable=True,
        ),
    ] = None,
    thaw: Annotated[bool, typer.Option("--thaw", help="Ask for bags in cold storage, which is billed.")] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, nothing else.")] = False,
) -> None:
    """Make copies known again that lie in our store and that our database does not know: it was lost.

    Each is read as a whole, and must be the bag that our registry has the digest of: rebuild the registry first.
    Exit 1 if one is not: nothing is done to it. Done again, it goes on with what is left.
    """
    from dpn.bags.validation.profiles import load_profile
    from dpn.cancellation import cancelled_by_signals
    from dpn.cli.restore.requests import uuid_of
    from dpn.cli.store.adoption import Adopting
    from dpn.storage.ownership.own_store import open_own_store

    counts = dict.fromkeys(("adopted", "refused", "cold"), 0)
    with open_node(context, config, "dpn-store") as node, cancelled_by_signals(_interrupted) as cancellation:
        settings = node.settings.needed_store()
        store = open_own_store(settings, node=node.namespace, sessions=node.sessions, clock=node.clock)
        profile = load_profile(node.settings.validation.profile)
        adopting = Adopting(node, store, profile, cancellation, scratch, thaw)
        for bag in map(uuid_of, bags) if bags else adopting.unknown_bags():
            done = adopting.adopt(bag)
            counts[done.state] += 1
            print(json.dumps(asdict(done)) if as_json else f"{done.bag}  {done.state}: {done.why}", flush=True)
    if not as_json:
        print(", ".join(f"{number} {state}" for state, number in counts.items()))
    if counts["refused"] or counts["cold"]:
        raise typer.Exit(EXIT_FAILED)


def _interrupted(number: signal.Signals) -> Interrupted:
    from dpn.errors import Interrupted

    return Interrupted(f"interrupted by {number.name}: the same command goes on")
