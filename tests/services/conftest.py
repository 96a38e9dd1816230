"""Migrated databases, made quickly, and nodes of scripted workers: on nsqd with PostgreSQL, embedded on SQLite."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from dpn.database import open_engine, open_sessions
from models.base import Base
from tests.conftest import Services
from tests.fixtures.databases import migrate
from tests.fixtures.scripted.bench import Bench
from tests.fixtures.scripted.node import FAST, MakeNode, Nsqd, ScriptedNode, nsq_settings
from tests.fixtures.scripted.spawner import Spawner

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "node.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(services: Services) -> Iterator[tuple[str, str]]:
    """The server's address and a database there to copy from."""
    server, template = services.up("postgresql")["url"], f"migrated_{os.getpid()}"
    _administer(server, f"CREATE DATABASE {template}")
    _migrate(server.rpartition("/")[0] + f"/{template}")
    yield server, template
    _administer(server, f"DROP DATABASE {template} WITH (FORCE)")


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated database of this test alone."""
    shutil.copy(migrated_sqlite, tmp_path / "node.db")
    return f"sqlite:///{tmp_path / 'node.db'}"


@pytest.fixture
def migrated_url(migrated_postgresql: tuple[str, str]) -> Iterator[str]:
    """A migrated PostgreSQL database of this test alone."""
    server, template = migrated_postgresql
    name = f"runner_{os.getpid()}_{next(_numbers)}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.rpartition("/")[0] + f"/{name}"
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def make_node(spawner: Spawner, tmp_path: Path) -> Iterator[MakeNode]:
    """Builds a node on a database and a broker; its workers end with the test."""
    nodes: list[ScriptedNode] = []

    def make(database_url: str, broker: dict[str, Any]) -> ScriptedNode:
        folder = tmp_path / f"node{len(nodes)}"
        folder.mkdir()
        topics = f"t{os.getpid()}_{next(_numbers)}"
        nodes.append(ScriptedNode(folder, database_url, broker, spawner, topics, work=dict(FAST)))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def nsq_node(make_node: MakeNode, migrated_url: str, nsqd_entry: dict[str, Any]) -> ScriptedNode:
    return make_node(migrated_url, nsq_settings(nsqd_entry))


@pytest.fixture
def embedded_node(make_node: MakeNode, sqlite_url: str) -> ScriptedNode:
    return make_node(sqlite_url, {"kind": "embedded", "poll_seconds": 1.0})


@pytest.fixture(params=["nsq", "embedded"])
def node(request: pytest.FixtureRequest) -> ScriptedNode:
    """The same test over nsq with PostgreSQL, and over the embedded broker with SQLite."""
    made: ScriptedNode = request.getfixturevalue(f"{request.param}_node")
    return made


@pytest.fixture(scope="session")
def nsqd_entry(services: Services) -> dict[str, Any]:
    return services.up("nsqd")


@pytest.fixture
def nsqd(nsqd_entry: dict[str, Any]) -> Nsqd:
    return Nsqd(nsqd_entry["http"])


def _migrate(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """One run at a time, on either database."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return Bench(open_sessions(engine))


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    engine = open_engine(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def postgresql_engine(emptied_postgresql: Engine) -> Engine:
    """A migrated, empty database: emptied, not made anew, for the sake of speed."""
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with emptied_postgresql.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return emptied_postgresql


@pytest.fixture(scope="session")
def emptied_postgresql(migrated_postgresql: tuple[str, str]) -> Iterator[Engine]:
    server, template = migrated_postgresql
    name = f"bench_{os.getpid()}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    engine = open_engine(server.rpartition("/")[0] + f"/{name}")
    yield engine
    engine.dispose()
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")
