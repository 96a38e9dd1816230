"""`dpn peer list`: a line a peer, true to the settings, the marks of sync and the breakers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import Sessions, insert_missing
from dpn.work.items import new_item
from models.registry import SyncMark
from models.work import ServiceHealth, WorkItem
from workers.pipelines import PIPELINES

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
PEER = """
[peers.{name}]
api_root = "https://dpn.{name}.example.org"
{token}
rsync.hosts = ["dpn.{name}.example.org"]
"""


def test_each_peer_is_told_with_what_stands_in_its_way(config: Path, sessions: Sessions, tmp_path: Path) -> None:
    north = PEER.format(name="north", token='token = "hunter2"')
    west = PEER.format(name="west", token=f'token_file = "{tmp_path}/none"')
    config.write_text(config.read_text() + north + west)
    row = new_item(
        task="replication", identifier="1", remote_node="north", note="", manifest={}, pipelines=PIPELINES,
        clock=SystemClock(),
    )  # fmt: skip
    with sessions.begin() as session:
        insert_missing(session, WorkItem, [row])
        session.add(SyncMark(peer="north", record_type="bags", succeeded_at=AT))
        session.add(ServiceHealth(service="rsync:west", failures=4, last_error="connection refused"))
    ended = CliRunner().invoke(app, ["--config", str(config), "peer", "list", "--json"])
    assert ended.exit_code == 0, ended.output
    first, second = (json.loads(line) for line in ended.stdout.splitlines())
    assert (first["peer"], first["token_problem"], first["open_items"], first["failing"]) == ("north", "", 1, "")
    assert datetime.fromisoformat(first["last_read"]) == AT
    assert second["token_problem"].startswith(f"token_file: {tmp_path}/none cannot be read as a file")
    assert (second["last_read"], second["failing"]) == (None, "rsync:west: 4 times in a row: connection refused")
    shown = CliRunner().invoke(app, ["--config", str(config), "peer", "list"]).stdout
    assert "hunter2" not in shown + ended.stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["peer", "north", "west"]
