"""`dpn db upgrade`: creates or migrates the database."""

from __future__ import annotations

import typer

from dpn.cli.node import ConfigOption, settings_of
from dpn.clock import SystemClock
from dpn.database import open_engine, open_sessions, schema_of, upgrade
from dpn.registry.catalogue import ensure_nodes

app = typer.Typer(help="The node's database.", no_args_is_help=True, add_completion=False)


@app.callback()
def _db() -> None:
    """The node's database."""


@app.command("upgrade")
def upgrade_database(context: typer.Context, config: ConfigOption = None) -> None:
    """Create the database, or migrate it to this software's schema. Safe to repeat."""
    settings, _ = settings_of(context, config)
    engine = open_engine(settings.database.address())
    before = schema_of(engine)
    upgrade(engine)
    after = schema_of(engine)
    with open_sessions(engine).begin() as session:
        ensure_nodes(session, settings.node, settings.peers, now=SystemClock().now())
    engine.dispose()
    done = {None: "is made", after: "is up to date"}.get(before, f"is migrated from schema {before}")
    print(f"The database of node {settings.node.namespace} {done}: schema {after}.")
