"""A database that answers but refuses to work is away: no item is blamed for it, no connection to it is kept."""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from dpn.cancellation import Cancellation
from dpn.database import open_engine, open_sessions, reading, writes
from dpn.errors import Misconfigured
from dpn.server.app import database_check
from dpn.work.outcomes import Done
from models.work import Status
from tests.fixtures.scripted.bench import Bench, Job
from workers.runner import stage_runner

UPDATE = text("UPDATE work_items SET note = note")


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    engine = open_engine(migrated_url)
    yield engine
    engine.dispose()


def take_writes(engine: Engine, yes: bool) -> None:
    """As a failover does: what connects from now on finds a server that takes writes, or one that takes none."""
    url = engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(url.rpartition("/")[0] + "/postgres", autocommit=True) as administrator:
        setting = "off" if yes else "on"
        administrator.execute(
            f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = {setting}"
        )


def update(engine: Engine, *before: str) -> None:
    with open_sessions(engine).begin() as session:
        for statement in before:
            session.execute(text(statement))
        session.execute(UPDATE)


@pytest.mark.parametrize("prepared", [True, False])
def test_behind_a_pooler_nothing_stays_with_a_connection(migrated_url: str, prepared: bool) -> None:
    engine = open_engine(migrated_url, prepared_statements=prepared)
    with engine.connect() as connection:
        for _ in range(10):
            connection.execute(text("SELECT count(*) FROM work_items"))
        kept = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql"))
    engine.dispose()
    assert bool(kept) is prepared


def test_a_connection_that_cannot_write_is_not_used_again(engine: Engine) -> None:
    take_writes(engine, yes=False)
    with engine.connect() as one, engine.connect() as another:  # two in the pool
        refusing = {connection.scalar(text("SHOW transaction_read_only")) for connection in (one, another)}
    assert refusing == {"on"}
    take_writes(engine, yes=True)
    with pytest.raises(OperationalError):
        update(engine)
    for _ in range(3):
        update(engine)


def test_health_says_that_the_database_takes_no_writes_and_notices_when_it_does(engine: Engine) -> None:
    check = database_check(open_sessions(engine))
    assert check() is None
    take_writes(engine, yes=False)
    engine.dispose()
    assert check() == "the database takes no writes"
    take_writes(engine, yes=True)
    assert check() is None, "the connection that took none was kept"


def test_a_transaction_that_the_server_broke_off_for_its_time_may_work_later(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SET idle_in_transaction_session_timeout = 20"))
        connection.execute(UPDATE)
        assert select.select([connection.connection.dbapi_connection], [], [], 10)[0], "the server has had enough"
        with pytest.raises(OperationalError):
            connection.execute(UPDATE)
    update(engine)


def test_a_table_that_is_denied_to_us_is_no_fault_of_what_is_written(engine: Engine) -> None:
    role = f"{engine.url.database}_reader"
    with pytest.raises(OperationalError, match="permission denied"):
        update(engine, f"CREATE ROLE {role}", f"SET ROLE {role}")
    update(engine)


def test_finished_work_is_written_once_the_database_takes_writes_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_runner, "DATABASE_RETRY_SECONDS", 0.05)
    bench = Bench(open_sessions(engine))
    item = bench.make_item()
    claim = bench.claim(item)

    def finish(_: Job[object]) -> Done:
        take_writes(engine, yes=False)
        engine.dispose()
        return Done("all was well")

    refused = threading.Event()

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            refused.set()
            return super().wait(timeout)

    runner = replace(bench.runner(claim.stage, finish), stopping=Stopping())
    run = threading.Thread(target=runner.run, args=(claim, Cancellation()), daemon=True)
    run.start()
    assert refused.wait(10), "the commit was not refused"
    take_writes(engine, yes=True)
    run.join(10)
    after = bench.item(item)
    assert (after.status, after.stage, after.attempts) == (Status.PENDING, "validate", 0)


def test_a_damaged_sqlite_database_is_away_and_a_read_only_one_takes_no_writes(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    engine = open_engine(sqlite_url)
    with reading(open_sessions(engine)) as session:
        assert writes(session)
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != file)
        assert not writes(session)
    engine.dispose()
    file.write_bytes(b"no database any more" * 1000)
    with pytest.raises(OperationalError):
        update(engine)
    engine.dispose()


@pytest.mark.parametrize("user", ["dpn:hard@to-guess", "dpn:hard@to/guess?", "d@p:n"])
def test_an_address_with_an_at_in_its_password_tells_and_looks_up_nothing_of_it(user: str) -> None:
    with pytest.raises(Misconfigured, match="%40") as told:
        open_engine(f"postgresql+psycopg://{user}@db.example.org/dpn")
    assert not {"hard", "guess", "db.example.org"} & set(re.split(r"[^a-z.]+", str(told.value)))
