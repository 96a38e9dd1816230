"""What is typed wrong, or cannot be, is one line on stderr and exit status 2, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import Sessions, insert_missing
from dpn.work.items import new_item
from models.work import WorkItem
from workers.pipelines import PIPELINES


@pytest.mark.parametrize(
    "words",
    [
        ["item", "show", "0"],
        ["item", "show", "one"],
        ["item", "show", str(2**63)],
        ["item", "retry", str(2**70)],
        ["item", "cancel", "1"],
        ["token", "revoke", str(2**63)],
        ["items", "--stage", "nowhere"],
        ["queue", "--hours", "nan"],
        ["queue", "--hours", "inf"],
        ["queue", "--hours", "-1"],
        ["queue", "--hours", "1e300"],
        ["worker", "copy", "--concurrency", "0"],
    ],
)
def test_what_cannot_be_is_unusable_input(config: Path, words: list[str]) -> None:
    ended = CliRunner().invoke(app, ["--config", str(config), *words])
    assert (ended.exit_code, ended.stdout) == (2, ""), ended.output
    assert ended.stderr


def test_an_item_that_is_not_there_is_an_answer(config: Path) -> None:
    ended = CliRunner().invoke(app, ["--config", str(config), "item", "show", str(2**63 - 1), "--json"])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "no work item" in ended.stderr


def test_monitoring_is_told_by_the_exit_status_that_items_need_a_person(config: Path, sessions: Sessions) -> None:
    def attention(*more: str) -> int:
        words = ["items", "--attention", "--exit-code", *more]
        return CliRunner().invoke(app, ["--config", str(config), *words]).exit_code

    with sessions.begin() as session:
        row = new_item(
            task="replication", identifier="1", remote_node="north", note="", manifest={}, pipelines=PIPELINES,
            clock=SystemClock(),
        )  # fmt: skip
        insert_missing(session, WorkItem, [row])
    assert (attention(), attention("--json")) == (0, 0)
    with sessions.begin() as session:
        session.execute(update(WorkItem).values(needs_attention=True))
    assert (attention(), attention("--json"), attention("--task", "ingest")) == (1, 1, 0)


def test_a_peer_without_its_token_file_stops_only_what_speaks_with_that_peer(config: Path, tmp_path: Path) -> None:
    peer = f"""
        [peers.north]
        api_root = "https://dpn.north.example.org"
        token_file = "{tmp_path}/never-came"
        rsync.hosts = ["dpn.north.example.org"]
        """
    config.write_text(config.read_text() + peer)
    for words in (["db", "upgrade"], ["items", "--json"], ["queue"]):
        ended = CliRunner().invoke(app, ["--config", str(config), *words])
        assert ended.exit_code == 0, ended.output
    ended = CliRunner().invoke(app, ["--config", str(config), "sync", "--json"])
    assert ended.exit_code == 1
    assert json.loads(ended.stdout)[0]["error"].startswith(
        f"peers.north.token_file: {tmp_path}/never-came cannot be read as a file (No such file or directory): "
    )


@pytest.mark.parametrize("command", [["queue", "--json"], ["sync", "--json"], ["items", "--json"]])
def test_json_is_all_that_is_on_stdout_also_where_colour_is_forced(
    config: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ended = CliRunner().invoke(app, ["--config", str(config), *command])
    assert ended.exit_code == 0
    assert "\x1b" not in ended.stdout
