"""The schema: made from nothing, the same as the models, safe to bring up to date at any time (reliability 44)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, String, TableClause, column, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

import models.messages
import models.migrations
import models.preservation
import models.registry
import models.work
from dpn.access import tokens
from dpn.access.scopes import Scope
from dpn.clock import ManualClock
from dpn.database import check_schema, open_engine, open_sessions, upgrade
from dpn.errors import Misconfigured
from models import partial_indexes
from models.base import Base, UtcDateTime
from tests.fixtures.scripted.bench import Bench


@pytest.fixture
def empty(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database, SQLite and PostgreSQL."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def migrated(empty: Engine) -> Engine:
    upgrade(empty)
    return empty


def differences(engine: Engine) -> list[Any]:
    """What `alembic revision --autogenerate` would still want to change."""
    partial_indexes.declare()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": _types_differ})
        return list(compare_metadata(context, Base.metadata))


def _types_differ(_context: Any, _column: Any, _metadata: Any, found: Any, wanted: Any) -> bool | None:
    """UtcDateTime is a way to read and write a column, not another column type."""
    return False if isinstance(wanted, UtcDateTime) else None


def alembic() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(models.migrations.FOLDER))
    return configuration


def upgrade_to(engine: Engine, revision: str) -> None:
    """As an older version of this software would have left the database."""
    configuration = alembic()
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)


def test_the_migrated_schema_is_that_of_the_models(migrated: Engine) -> None:
    assert differences(migrated) == []


def test_constraints_that_autogenerate_does_not_see_are_those_of_the_models(migrated: Engine) -> None:
    """Checks, and what happens to rows when those they point to go."""
    inspector = inspect(migrated)
    for table in Base.metadata.sorted_tables:
        checks = {constraint["name"] for constraint in inspector.get_check_constraints(table.name)}
        assert checks == {str(c.name) for c in table.constraints if type(c).__name__ == "CheckConstraint"}, (
            table.name
        )
        found = {
            (tuple(k["constrained_columns"]), k["options"].get("ondelete"))
            for k in inspector.get_foreign_keys(table.name)
        }
        assert found == {(tuple(k.column_keys), k.ondelete) for k in table.foreign_key_constraints}, table.name


def test_the_schema_holds_what_the_code_relies_on(migrated: Engine) -> None:
    bench = Bench(open_sessions(migrated), ManualClock())
    bench.make_item()
    for change in (
        "UPDATE work_items SET status = 'lost'",
        "INSERT INTO disk_reservations (item_id, volume, bytes, created_at) VALUES (1, 'x', 1, '2024-01-01')",
        "INSERT INTO dispatch_intents (item_id, topic, created_at) VALUES (99, 'topic', '2024-01-01')",
    ):
        with pytest.raises(IntegrityError), migrated.begin() as connection:
            connection.execute(text(change))


def test_bringing_it_up_to_date_again_keeps_what_is_there(migrated: Engine) -> None:
    bench = Bench(open_sessions(migrated), ManualClock())
    item = bench.make_item()
    for _ in range(2):
        upgrade(migrated)
    assert bench.item(item).identifier.startswith("00000000")
    check_schema(migrated)


def test_several_who_upgrade_at_once_make_one_schema(empty: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: upgrade(open_engine(empty.url.render_as_string(hide_password=False))), range(4)))
    assert differences(empty) == []


def test_an_upgrade_that_fails_leaves_nothing_behind(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fails)
        with pytest.raises(RuntimeError):
            upgrade(empty)
    assert inspect(empty).get_table_names() == []
    upgrade(empty)
    check_schema(empty)


def test_an_empty_database_is_told_from_an_older_and_a_newer_one(empty: Engine) -> None:
    with pytest.raises(Misconfigured, match="empty: run `dpn db upgrade`"):
        check_schema(empty)
    upgrade(empty)
    check_schema(empty)
    stamp(empty, "9999_of_the_future")
    with pytest.raises(Misconfigured, match=r"9999_of_the_future.*newer than this software: upgrade"):
        check_schema(empty)


def test_an_older_schema_asks_for_the_upgrade(empty: Engine) -> None:
    upgrade_to(empty, "0001")
    needed = models.migrations.REVISIONS[-1]
    with pytest.raises(Misconfigured, match=f"has schema 0001, .* needs {needed}: run `dpn db upgrade`"):
        check_schema(empty)


def test_what_an_older_schema_holds_is_still_there_after_the_upgrade(empty: Engine) -> None:
    upgrade_to(empty, "0001")
    held = {"namespace": "south", "salt": "s", "sha256": "h", "created_at": ManualClock().now()}
    _hold_token(empty, held)
    upgrade(empty)
    check_schema(empty)
    with empty.connect() as connection:
        assert connection.execute(select(models.registry.ApiToken.owner)).scalars().all() == ["south"]


def test_a_token_of_the_time_before_expiry_still_counts_and_never_expires(empty: Engine) -> None:
    upgrade_to(empty, "0008")
    digest = hashlib.sha256(b"salt" + b"token").hexdigest()
    held = {"namespace": "south", "salt": "salt", "sha256": digest, "created_at": ManualClock().now()}
    _hold_token(empty, held)
    upgrade(empty)
    with open_sessions(empty)() as session:
        shown = tokens.identify(session, "token")
        assert shown is not None
        assert (shown.owner, shown.expires_at) == ("south", None)
        assert [(one.label, one.last_used_at) for one in tokens.issued(session)] == [("", None)]


def test_a_token_of_the_time_before_scopes_is_its_nodes_and_is_found_without_a_walk_once_it_was_used(
    empty: Engine,
) -> None:
    upgrade_to(empty, "0013")
    now = ManualClock().now()
    old = {name: name * 32 for name in ("ab", "cd")}
    for name, token in old.items():
        digest = hashlib.sha256(b"salt" + token.encode()).hexdigest()
        _hold_token(
            empty, {"namespace": name, "salt": "salt", "sha256": digest, "created_at": now, "last_used_at": now}
        )
    upgrade(empty)
    sessions = open_sessions(empty)
    with sessions.begin() as session:
        shown = tokens.identify(session, old["ab"])
        assert shown is not None
        assert (shown.owner, shown.scopes) == ("ab", (Scope.NODE,))
        tokens.note_use(session, shown, now=now)
    with sessions() as session:
        plain = hashlib.sha256(old["ab"].encode()).hexdigest()
        lookups = session.execute(select(models.registry.ApiToken.owner, models.registry.ApiToken.lookup))
        assert {row.owner: row.lookup for row in lookups} == {"ab": plain[:16], "cd": None}
        assert tokens.identify(session, old["ab"]) == shown
        assert tokens.identify(session, old["cd"]) is not None


def _hold_token(engine: Engine, row: dict[str, Any]) -> None:
    """Writes a row of the time when a token belonged to a namespace."""
    columns = (column(name, UtcDateTime() if name.endswith("_at") else String()) for name in row)
    with engine.begin() as connection:
        connection.execute(insert(TableClause("api_tokens", *columns)), row)


def test_each_migration_follows_the_one_before() -> None:
    """One head: two people's migrations must not part ways."""
    revisions = [script.revision for script in ScriptDirectory.from_config(alembic()).walk_revisions()]
    assert tuple(reversed(revisions)) == models.migrations.REVISIONS, "what a process at its start takes them for"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"this is no database, it is a text of some length" * 100, "not a database"), (None, "unable to open")],
    ids=["another file", "no such folder"],
)
def test_what_is_no_database_says_so(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "node.db" if content else tmp_path / "missing" / "node.db"
    if content:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=message):
        check_schema(open_engine(f"sqlite:///{path}"))


def test_a_database_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(Misconfigured, match=r"database\.url"):
        check_schema(open_engine("postgresql+psycopg://dpn:secret@127.0.0.1:9/dpn"))


@pytest.mark.parametrize("url", ["mysql://a/b", "no url at all", ""])
def test_other_databases_are_refused_without_repeating_what_may_be_secret(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"database\.url") as refused:
        open_engine(url)
    assert "no url" not in str(refused.value)


def stamp(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
