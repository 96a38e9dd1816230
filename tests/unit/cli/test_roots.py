"""`dpn roots` shows where objects may lie, and which of these places does not answer, without a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
[node]
namespace = "north"
api_root = "https://north.example.org"
[database]
url = "sqlite:///{folder}/node.db"
[roots.archive]
url = "file://{folder}/archive"
access = "read"
allow = ["door:medusa"]
[roots.drop]
url = "file://{folder}/gone"
access = "write"
[roots.far]
rclone = {{ type = "webdav", url = "https://dav.example.org", user = "dpn", pass = "top-secret" }}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a").write_text("x")
    path = tmp_path / "node.toml"
    path.write_text(SETTINGS.format(folder=tmp_path))
    return path


def run(settings: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dpn.cli.main", "--config", str(settings), "roots", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_root_is_shown_without_its_secrets(settings: Path, tmp_path: Path) -> None:
    done = run(settings, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["name"], one["access"], one["problem"]) for one in shown] == [
        ("archive", "read", None),
        ("drop", "write", None),
        ("far", "read-write", None),
    ]
    assert shown[0]["place"] == f"file://{tmp_path}/archive"
    assert shown[0]["allow"] == ["door:medusa"]
    assert shown[2]["place"] == "rclone: webdav"
    assert "top-secret" not in done.stdout


def test_one_that_does_not_answer_is_told_with_its_reason(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "archive" / "a").unlink()
    (tmp_path / "archive").rmdir()
    done = run(settings, "--check")
    assert done.returncode == 1
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert f"{tmp_path}/archive" in lines["archive"].partition("door:medusa")[2], "what is wrong, and where"
    assert "only rclone can reach" in lines["far"]
    assert "gone" not in lines["drop"].partition("write")[2], "what is written only, is not asked"
