"""Opens the node's database and brings its schema up to date.

SQLite runs in WAL mode with foreign keys on. Its transactions take the write lock when they begin, so that
"read, decide, write" is as safe there as with row locks on PostgreSQL; `reading` opens one that does not.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import (
    ClauseElement,
    Connection,
    Engine,
    ExceptionContext,
    Row,
    Table,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from dpn.errors import Misconfigured
from models.base import Base, DamagedJson
from models.migrations import FOLDER, REVISIONS

Sessions = sessionmaker[Session]

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What says that the database cannot be reached, is too busy or refuses to work now, whatever it is asked: the
same statement may well work later."""

REFUSALS = frozenset({"25006", "25P03", "25P04", "42501", "XX001", "XX002"})
"""What PostgreSQL says where it takes no writes (a standby, after a failover), broke a transaction off because of
its time limits, denies us a table, or has a damaged one. psycopg takes these for faults of the statement."""

DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

SQLITE_BUSY_SECONDS = 60
"""How long a SQLite writer waits for its turn: longer than any transaction of ours lasts."""

ADDRESS = "database.url, or what the file in database.url_file says,"
"""What an operator is told to look at: which of the two is set, only the settings know."""

CONNECT_TIMEOUT_SECONDS = 10
SILENCE_SECONDS = 30
"""After how long without an answer on the network a PostgreSQL server counts as gone."""

UPGRADE_LOCK = 0x64706E
"""PostgreSQL's advisory lock under which the schema is changed."""


def open_engine(url: str, *, pool_size: int = 10, prepared_statements: bool = True) -> Engine:
    """An engine for `sqlite:///…` or `postgresql+psycopg://…`. Raises Misconfigured for any other URL.

    Without `prepared_statements` a pooler may give each transaction another connection of the server's.
    """
    if url.count("@") > 1 and not url.startswith("sqlite"):  # what follows the first one would be taken for a host
        raise Misconfigured(f"{ADDRESS} has more than one @: write those of user and password as %40")
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(f"{ADDRESS} is not a database address: see config/node.example.toml") from error
    match address.get_backend_name():
        case "sqlite":
            engine = _open_sqlite(url)
        case "postgresql":
            engine = create_engine(
                address,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                    "tcp_user_timeout": SILENCE_SECONDS * 1000,
                    "keepalives_idle": SILENCE_SECONDS // 3,
                    "keepalives_interval": SILENCE_SECONDS // 3,
                    "keepalives_count": 2,
                    **({} if prepared_statements else {"prepare_threshold": None}),
                },
            )
        case other:
            raise Misconfigured(
                f"{ADDRESS} names {other}, which is not supported: use sqlite or postgresql+psycopg"
            )
    event.listen(engine, "handle_error", _tell_away)
    return engine


def _tell_away(context: ExceptionContext) -> OperationalError | None:
    """A database that refuses to work is away, and so is every connection to it: the next one may find another."""
    refused = context.original_exception
    if getattr(refused, "sqlstate", None) not in REFUSALS and _sqlite_code(refused) not in DAMAGED:
        return None
    context.is_disconnect = True
    return OperationalError(context.statement, context.parameters, refused, connection_invalidated=True)


def _sqlite_code(error: BaseException) -> int | None:
    """Without what tells one kind of damage from another, which stands in the higher bits."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def writes(session: Session) -> bool:
    """Whether the database takes writes at this moment; a connection that takes none is used no more. Raises as
    any statement does if the database is away."""
    if session.get_bind().dialect.name == "sqlite":
        file = session.scalar(text("SELECT file FROM pragma_database_list WHERE name = 'main'"))
        return not file or os.access(file, os.W_OK)
    if session.scalar(text("SELECT current_setting('transaction_read_only')")) == "off":
        return True
    session.invalidate()
    return False


def open_sessions(engine: Engine) -> Sessions:
    """Sessions whose objects stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def reading(sessions: Sessions) -> Iterator[Session]:
    """A session that only reads: it never waits for a writer nor makes one wait."""
    with sessions() as session:
        session.connection(execution_options={"read_only": True})
        yield session


def insert_missing(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts those of `rows` that break no unique constraint, in one go; returns how many there were.

    All rows have the same columns. Many rows of plain values are far quicker than of SQL expressions.
    """
    if not rows:
        return 0
    statement = _insert_missing(session, model).execution_options(preserve_rowcount=True)
    if any(isinstance(value, ClauseElement) for value in rows[0].values()):
        result = session.connection().execute(statement.values(list(rows)))
    else:
        result = session.connection().execute(statement, list(rows))
    return result.rowcount


def inserted_missing(
    session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]], *columns: InstrumentedAttribute[Any]
) -> Sequence[Row[Any]]:
    """As `insert_missing`, for rows of plain values; returns these columns of those that were inserted."""
    if not rows:
        return []
    return session.connection().execute(_insert_missing(session, model).returning(*columns), list(rows)).all()


def _insert_missing(session: Session, model: type[Base]) -> Any:
    return insert_into(session, cast("Table", model.__table__)).on_conflict_do_nothing()


def insert_into(session: Session, table: Table | type[Base]) -> Any:
    """An INSERT in the dialect of the session's database, both of which have the same words for conflicts."""
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # not both, whichever it is: this one costs two megabytes

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def upgrade(engine: Engine) -> None:
    """Creates the tables or migrates them to the newest schema, whole or not at all.

    Safe to repeat, by several at once, too; never goes back.
    """
    from alembic import command  # not for every process: it costs seven megabytes
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(FOLDER))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def check_schema(engine: Engine) -> None:
    """Raises Misconfigured unless the database has exactly the schema that this software was written for."""
    needed = REVISIONS[-1]
    try:
        current = schema_of(engine)
    except DBAPIError as error:
        raise Misconfigured(
            f"the database cannot be read ({error.orig}): check {ADDRESS} and that it runs"
        ) from error
    if current is None:
        raise Misconfigured("the database is empty: run `dpn db upgrade`")
    if current in REVISIONS[:-1]:
        raise Misconfigured(
            f"the database has schema {current}, this software needs {needed}: run `dpn db upgrade`"
        )
    if current != needed:
        raise Misconfigured(f"the database has schema {current}, which is newer than this software: upgrade it")


def schema_of(engine: Engine) -> str | None:
    """The revision that Alembic noted in the database; None before it ever did."""
    with engine.connect().execution_options(read_only=True) as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return None
        current: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return current


def _json_or_damage(stored: str) -> Any:
    """PostgreSQL refuses what is no JSON; SQLite takes anything, by hand or from a bad disk."""
    try:
        return json.loads(stored)
    except ValueError:
        return DamagedJson(stored)


def _open_sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS}, json_deserializer=_json_or_damage)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        deferred = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")

    return engine
