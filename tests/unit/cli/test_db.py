"""`dpn db upgrade` says what it did, and where the address of a database that cannot be used stands."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from dpn.cli.main import app
from models.migrations import REVISIONS


def upgrade(config: Path) -> str:
    ended = CliRunner().invoke(app, ["--config", str(config), "db", "upgrade"])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_a_new_a_present_and_an_older_database_are_told_apart(config: Path) -> None:
    newest = f"schema {REVISIONS[-1]}."
    assert upgrade(config) == f"The database of node south is up to date: {newest}\n"
    config.with_name("node.db").unlink()
    assert upgrade(config) == f"The database of node south is made: {newest}\n"


def test_an_address_that_is_none_is_looked_for_where_it_stands(config: Path, tmp_path: Path) -> None:
    secret = tmp_path / "address"
    secret.write_text("mysql://host/database")
    text = config.read_text().replace(f'url = "sqlite:///{tmp_path / "node.db"}"', f'url_file = "{secret}"')
    config.write_text(text)
    ended = CliRunner().invoke(app, ["--config", str(config), "db", "upgrade"])
    assert "database.url_file" in str(ended.exception)
