"""`dpn store …`: the long-term store as a whole."""

from __future__ import annotations

import typer

from dpn.cli.node import ConfigOption, open_node

app = typer.Typer(help="The long-term store as a whole.", no_args_is_help=True, add_completion=False)


@app.callback()
def _store() -> None:
    """Several commands: each is named."""


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
