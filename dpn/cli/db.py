"""`dpn db …`: creates or migrates the database, and moves a node from SQLite to another one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.exc import DBAPIError

import models.messages
import models.preservation
import models.registry
import models.work  # noqa: F401  (these four know all tables)
from dpn.cli.node import ConfigOption, settings_of
from dpn.clock import SystemClock
from dpn.database import open_engine, open_sessions, schema_of, upgrade
from dpn.errors import Misconfigured
from dpn.registry.catalogue import ensure_nodes
from models.base import Base
from models.migrations import REVISIONS

ROWS_AT_ONCE = 1000

app = typer.Typer(help="The node's database.", no_args_is_help=True, add_completion=False)


@app.command("upgrade")
def upgrade_database(context: typer.Context, config: ConfigOption = None) -> None:
    """Create the database, or migrate it to this software's schema. Safe to repeat."""
    settings, _ = settings_of(context, config)
    engine = open_engine(settings.database.address(), prepared_statements=settings.database.prepared_statements)
    before = schema_of(engine)
    upgrade(engine)
    after = schema_of(engine)
    with open_sessions(engine).begin() as session:
        ensure_nodes(session, settings.node, settings.peers, now=SystemClock().now())
    engine.dispose()
    done = {None: "is made", after: "is up to date"}.get(before, f"is migrated from schema {before}")
    print(f"The database of node {settings.node.namespace} {done}: schema {after}.")


@app.command("import")
def import_database(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A SQLite database of this node, of this software's schema.")
    ],
    config: ConfigOption = None,
) -> None:
    """Make the database of the settings, which must be empty, and fill it with every row of a SQLite file.

    All of it or nothing. Nothing of the node may run; the file is only read.
    """
    settings, _ = settings_of(context, config)
    if not file.is_file():
        raise Misconfigured(f"{file} is no file: name the SQLite database to take everything from")
    source = create_engine("sqlite://", creator=lambda: _only_to_read(file))
    if (found := schema_of(source)) != REVISIONS[-1]:
        raise Misconfigured(f"{file} has schema {found}, this software needs {REVISIONS[-1]}: upgrade it first")
    target = open_engine(settings.database.address())
    upgrade(target)
    rows = copy_rows(source, target)
    source.dispose()
    target.dispose()
    print(f"The database of node {settings.node.namespace} has all {rows} rows of {file}.")


def copy_rows(source: Engine, target: Engine) -> int:
    """Fills the tables of `target`, which must be empty, with the rows of `source`, a SQLite database of the same
    schema, as of one moment; returns how many there were. Raises Misconfigured: then nothing was changed.
    """
    rows = 0
    with source.connect() as ours, target.begin() as theirs:
        ours.exec_driver_sql("BEGIN")
        for table in Base.metadata.sorted_tables:
            if theirs.scalar(select(literal_column("1")).select_from(table).limit(1)) is not None:
                raise Misconfigured(
                    f"the database of the settings is not empty ({table.name} has rows): give it a new one"
                )
        for table in Base.metadata.sorted_tables:
            try:
                rows += _copy(table, ours, theirs)
            except (DBAPIError, ValueError) as error:  # ValueError: of a row that cannot even be read
                why = error.orig if isinstance(error, DBAPIError) else error
                raise Misconfigured(
                    f"{table.name}: a row cannot be taken over ({str(why).strip()}): correct it there; "
                    "nothing was imported"
                ) from error
    return rows


def _only_to_read(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def _copy(table: Table, source: Connection, target: Connection) -> int:
    filled = table.to_metadata(MetaData())
    for column in filled.c:
        if isinstance(column.type, JSON):
            column.type = JSON(none_as_null=True)  # else what is NULL there would become JSON's own null
    copied = 0
    found = source.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE))
    for rows in found.mappings().partitions():
        target.execute(insert(filled), [dict(row) for row in rows])
        copied += len(rows)
    counted = table.autoincrement_column
    if copied and counted is not None and target.dialect.name == "postgresql":
        highest = select(func.max(counted)).scalar_subquery()  # the next row's number comes after it
        target.execute(select(func.setval(func.pg_get_serial_sequence(table.name, counted.name), highest)))
    return copied
