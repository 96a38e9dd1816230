"""`dpn backup` while the node works: what it makes is whole, is of one moment, and can be gone on from."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, make_url, select, update
from typer.testing import CliRunner, Result

from dpn.cli.backup import PLACEHOLDER, without_secrets
from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import Sessions, check_schema, insert_missing, open_engine, open_sessions, upgrade
from dpn.errors import Misconfigured
from dpn.work.items import new_item
from models.work import WorkItem
from workers.pipelines import PIPELINES

TOKEN = "hunter2-for-north"
ITEMS = 200


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine = open_engine(database_url)
    upgrade(engine)
    yield open_sessions(engine)
    engine.dispose()


@pytest.fixture
def config(sessions: Sessions, database_url: str, tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(f"""
        node.namespace = "south"
        database.url = "{database_url}"
        # north's registry
        [peers.north]
        api_root = "https://dpn.north.example.org"
        token = '{TOKEN}'
        rsync.hosts = ["dpn.north.example.org"]
        """)
    return file


def backup(config: Path, folder: Path) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), "backup", str(folder)])


@contextmanager
def busy(sessions: Sessions) -> Iterator[None]:
    """All items get the same new note again and again, each time in one transaction."""
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with sessions.begin() as session:
                session.execute(update(WorkItem).values(note=f"{number}", updated_at=SystemClock().now()))

    writer = threading.Thread(target=work)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def test_what_was_backed_up_while_all_was_busy_is_whole_and_of_one_moment(
    config: Path, sessions: Sessions, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    row = new_item(
        task="replication", identifier="", remote_node="north", note="", manifest={}, pipelines=PIPELINES,
        clock=SystemClock(),
    )  # fmt: skip
    with sessions.begin() as session:
        insert_missing(session, WorkItem, [row | {"identifier": str(number)} for number in range(ITEMS)])
    folder = tmp_path / "backups"
    with busy(sessions):
        made = backup(config, folder)
    assert made.exit_code == 0, made.output
    contents = json.loads((folder / "backup.json").read_text())
    for name, digest in contents["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (contents["node"], folder.stat().st_mode & 0o777) == ("south", 0o700)
    assert TOKEN not in (folder / "settings.toml").read_text()
    assert json.loads((folder / "registry.jsonl").read_text().splitlines()[0])

    engine = open_engine(restored(folder, database_url, request))
    check_schema(engine)
    with open_sessions(engine)() as session:
        count, notes = session.execute(select(func.count(), func.count(WorkItem.note.distinct()))).one()
    engine.dispose()
    assert (count, notes) == (ITEMS, 1), "all of one transaction or of none"


def restored(folder: Path, database_url: str, request: pytest.FixtureRequest) -> str:
    """The database that the backup gives, as docs/operations.md says."""
    if database_url.startswith("sqlite"):
        return f"sqlite:///{folder / 'dpn.sqlite'}"
    url = make_url(database_url)
    name = f"{url.database}_restored"
    with open_engine(database_url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    target = url.set(database=name)
    plain = target.set(drivername="postgresql").render_as_string(hide_password=False)
    command = ["pg_restore", "--no-owner", f"--dbname={plain}", str(folder / "dpn.pgdump")]
    subprocess.run(command, check=True, capture_output=True)
    return target.render_as_string(hide_password=False)


def test_a_backup_takes_nothings_place_and_one_that_fails_leaves_nothing(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    assert isinstance(backup(config, folder).exception, Misconfigured)
    before = {path.name for path in tmp_path.iterdir()}
    assert isinstance(backup(config, tmp_path / "no" / "such" / "place").exception, Misconfigured)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_settings_are_kept_with_their_comments_and_without_their_secrets() -> None:
    text = """
        database.url = "postgresql+psycopg://dpn:pass word@host/dpn"   # ours
        store = {url = "s3://bucket", secret_access_key = 'k"y', access_key_id = "id"}
        [peers.north]
        token_file = "/etc/dpn/token"
        [peers.west]
        token = \"\"\"a token\"\"\"
        """
    kept = without_secrets(text)
    assert "# ours" in kept
    values = tomllib.loads(kept)
    assert values["database"]["url"] == values["peers"]["west"]["token"] == PLACEHOLDER
    assert values["store"] == {"url": "s3://bucket", "secret_access_key": PLACEHOLDER, "access_key_id": "id"}
    assert values["peers"]["north"]["token_file"] == "/etc/dpn/token"
    sqlite = 'database.url = "sqlite:////var/lib/dpn/node.db"'
    assert without_secrets(sqlite) == sqlite
    with pytest.raises(Misconfigured, match="put it into a file"):
        without_secrets(r'peers.west.token = "a\u0062"')
