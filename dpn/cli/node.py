"""Opens a node from its settings file: what every command that needs a node begins with."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dpn.cli.owner import require_owner, runs_anyway
from dpn.clock import SystemClock
from dpn.database import check_schema, open_engine, open_sessions
from dpn.node import OpenNode
from dpn.setting_types import SettingsError
from dpn.settings import Settings
from dpn.settings_file import load_settings
from dpn.telemetry.logs import configure_logs

LARGEST_ROW_ID = 2**63 - 1
"""What a database takes as the id of a row."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The node's settings file; DPN_CONFIG may name it.", envvar="DPN_CONFIG"),
]


@contextmanager
def open_node(context: typer.Context, config: Path | None, process: str) -> Iterator[OpenNode]:
    """The node of `--config`, wherever on the command line it stands. Raises Misconfigured."""
    settings, path = settings_of(context, config)
    log = configure_logs(settings.log, process, node=settings.node.namespace)
    engine = open_engine(
        settings.database.address(),
        pool_size=settings.database.pool_size,
        prepared_statements=settings.database.prepared_statements,
    )
    try:
        check_schema(engine)
        yield OpenNode(settings, path, engine, open_sessions(engine), SystemClock(), log)
    finally:
        engine.dispose()


def settings_of(context: typer.Context, config: Path | None) -> tuple[Settings, Path]:
    """The settings and the file they come from. Raises SettingsError, and Misconfigured for another user than the
    data's owner."""
    path = config or context.obj
    if path is None:
        raise SettingsError("no settings: give --config FILE or set DPN_CONFIG")
    settings = load_settings(path)
    if not runs_anyway(context):
        require_owner(settings)
    return settings, path


def operator() -> str:
    """Who is at the keyboard, for the audit trail."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
