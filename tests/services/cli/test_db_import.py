"""`dpn db import`: a node moves from a SQLite file to the database of its settings, with all that it knows."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, select, text
from typer.testing import CliRunner, Result

from dpn.access import tokens
from dpn.cli.db import copy_rows
from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import insert_missing, open_engine, open_sessions, upgrade
from dpn.errors import Misconfigured
from dpn.registry.catalogue import BAGS
from dpn.registry.catalogue.rows import save
from dpn.work.items import new_item
from models.base import Base
from models.registry import SetAsideRecord
from models.work import WorkItem
from tests.fixtures.databases import migrate
from tests.fixtures.records import a_bag
from workers.pipelines import PIPELINES

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite database with something of many kinds in it."""
    path = tmp_path / "old" / "node.db"
    path.parent.mkdir()
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    row = new_item(
        task="replication", identifier="1", remote_node="north", note="…", manifest={"ä": [1, None]},
        pipelines=PIPELINES, clock=SystemClock(),
    )  # fmt: skip
    aside = {
        "peer": "north",
        "kind": "bags",
        "status": 422,
        "reason": "r",
        "first_seen_at": AT,
        "last_seen_at": AT,
    }
    with open_sessions(engine).begin() as session:
        tokens.issue(session, "north", now=AT, label="of 2026", expires_at=AT)
        save(session, BAGS, [a_bag(number) for number in range(1, 1500)])
        insert_missing(session, WorkItem, [row, row | {"identifier": "2"}])
        session.execute(text("UPDATE work_items SET id = id + 40"))
        session.add(SetAsideRecord(**aside, record_key="1", excerpt="x"))
        session.add(SetAsideRecord(**aside, record_key="2", record={"a": 1}))
    with open_sessions(engine).begin() as session:
        session.execute(text("UPDATE set_aside_records SET record = NULL WHERE record_key = '1'"))
    engine.dispose()
    return path


def settings(database_url: str, tmp_path: Path) -> Path:
    config = tmp_path / "node.toml"
    config.write_text(f"""
        node = {{namespace = "south", api_root = "https://dpn.south.example.org"}}
        database.url = "{database_url}"
        """)
    return config


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), "db", *arguments])


def rows_of(engine: Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(repr(tuple(row)) for row in connection.execute(select(table)))
            for table in Base.metadata.sorted_tables
        }


def test_every_row_comes_over_and_the_node_goes_on_counting(database_url: str, file: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    config = settings(database_url, tmp_path)
    done = run(config, "import", str(file))
    assert done.exit_code == 0, done.exception
    old, new = create_engine(f"sqlite:///{file}"), open_engine(database_url)
    assert rows_of(new) == rows_of(old)
    with open_sessions(new).begin() as session:
        assert session.scalar(text("SELECT count(*) FROM set_aside_records WHERE record IS NULL")) == 1
        item = new_item(
            task="replication", identifier="3", remote_node="north", note="", manifest={}, pipelines=PIPELINES,
            clock=SystemClock(),
        )  # fmt: skip
        insert_missing(session, WorkItem, [item])
        assert session.scalars(select(WorkItem.id).order_by(WorkItem.id)).all() == [41, 42, 43]
    new.dispose()
    assert run(config, "upgrade").exit_code == 0
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, "it was only read"


def test_a_database_that_holds_something_is_not_written_over(
    database_url: str, file: Path, tmp_path: Path
) -> None:
    config = settings(database_url, tmp_path)
    assert run(config, "upgrade").exit_code == 0
    engine = open_engine(database_url)
    before = rows_of(engine)
    refused = run(config, "import", str(file))
    assert isinstance(refused.exception, Misconfigured)
    assert "is not empty (list_states has rows): give it a new one" in str(refused.exception)
    assert rows_of(engine) == before
    engine.dispose()


def test_a_row_that_cannot_be_taken_over_is_told_and_nothing_comes(tmp_path: Path, file: Path) -> None:
    with create_engine(f"sqlite:///{file}").begin() as connection:
        connection.execute(text("UPDATE work_items SET manifest = '{' WHERE id = 42"))
    target = open_engine(f"sqlite:///{tmp_path}/new.db")
    upgrade(target)
    with pytest.raises(Misconfigured, match=r"work_items: a row cannot be taken over .* nothing was imported"):
        copy_rows(create_engine(f"sqlite:///{file}"), target)
    assert not any(rows_of(target).values())
    target.dispose()


def test_an_older_file_and_what_is_no_file_are_refused(file: Path, tmp_path: Path) -> None:
    config = settings(f"sqlite:///{tmp_path}/new.db", tmp_path)
    assert "is no file" in str(run(config, "import", str(tmp_path / "none")).exception)
    with create_engine(f"sqlite:///{file}").begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0007'"))
    assert "has schema 0007" in str(run(config, "import", str(file)).exception)
    assert not (tmp_path / "new.db").exists()
