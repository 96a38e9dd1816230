"""`dpn token`: what an operator calls a token, until when it counts, and that this is listed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpn.cli.main import app


def token(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), "token", *arguments])


def test_a_tokens_label_and_expiry_are_listed(config: Path) -> None:
    assert token(config, "issue", "north", "--label", "of 2027", "--days", "400").exit_code == 0
    assert token(config, "issue", "north").exit_code == 0
    first, second = (json.loads(line) for line in token(config, "list", "--json").stdout.splitlines())
    lasts = datetime.fromisoformat(first["expires_at"]) - datetime.fromisoformat(first["issued_at"])
    assert (first["label"], lasts) == ("of 2027", timedelta(days=400))
    assert (second["label"], second["expires_at"], second["last_used_at"]) == ("", None, None)
    headings, line, _ = token(config, "list").stdout.splitlines()
    assert headings.split() == ["id", "node", "label", "issued", "expires", "last", "used", "revoked", "scopes"]
    assert "of 2027" in line
    assert first["expires_at"] in line


@pytest.mark.parametrize("wrong", [("--label", "two\nlines"), ("--label", "x" * 256), ("--days", "0")])
def test_what_is_no_label_or_no_time_makes_no_token(config: Path, wrong: tuple[str, str]) -> None:
    refused = token(config, "issue", "north", *wrong)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert token(config, "list", "--json").stdout == ""
