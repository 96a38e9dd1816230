"""Items whose manifests are damaged, or of a newer software, stop no command: the others are shown, and go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import Sessions, insert_missing
from dpn.work.items import new_item
from models.work import Status, WorkItem
from workers.pipelines import PIPELINES

DAMAGED = (
    '{"manifest_version": 99, "x": 1}',
    '{"restarts": "x"}',
    "{broken",
    "[1]",
    "null",
    '"text"',
    '{"receipt": {"url": 5}}',
    '{"staged": {"volume": "main"}}',
)


@pytest.fixture
def damaged(sessions: Sessions) -> list[int]:
    """One of each kind, of each task."""
    with sessions.begin() as session:
        for number, (task, manifest) in enumerate((t, m) for t in PIPELINES.tasks for m in DAMAGED):
            row = new_item(
                task=task, identifier=f"00000000-0000-4000-a000-{number:012d}", remote_node=None, note="",
                manifest={}, pipelines=PIPELINES, clock=SystemClock(),
            )  # fmt: skip
            insert_missing(session, WorkItem, [row])
            session.execute(
                text("UPDATE work_items SET manifest = :manifest WHERE identifier = :identifier"),
                {"manifest": manifest, "identifier": row["identifier"]},
            )
        return list(session.execute(text("SELECT id FROM work_items ORDER BY id")).scalars())


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED, Status.SUCCESS])
def test_every_command_goes_on(
    config: Path, sessions: Sessions, damaged: list[int], tmp_path: Path, status: Status
) -> None:
    def run(*words: str) -> str:
        ended = CliRunner().invoke(app, ["--config", str(config), *words])
        assert (ended.exit_code, ended.exception) == (0, None), (words, ended.output)
        return ended.stdout

    with sessions.begin() as session:
        session.execute(
            text("UPDATE work_items SET status = :status, completed_at = CASE WHEN :ended THEN updated_at END"),
            {"status": status, "ended": status.is_final},
        )
    run("items")
    listed = [json.loads(line)["id"] for line in run("items", "--json").splitlines()]
    assert sorted(listed) == damaged
    for item in damaged[: len(DAMAGED)]:
        assert json.loads(run("item", "show", str(item), "--json"))["id"] == item
        run("item", "show", str(item))
    for words in (["queue"], ["cleanup"], ["fixity", "report"], ["registry", "export", str(tmp_path / "export")]):
        run(*words)


def test_an_operator_ends_those_that_have_no_copy(config: Path, sessions: Sessions, damaged: list[int]) -> None:
    without_copy = [item for item, manifest in zip(damaged, DAMAGED, strict=False) if "receipt" not in manifest]
    for item in without_copy:
        words = ["item", "cancel", str(item), "--reason", "damaged"]
        ended = CliRunner().invoke(app, ["--config", str(config), *words])
        assert ended.exit_code == 0, ended.output
    with sessions() as session:
        cancelled = session.execute(text("SELECT id FROM work_items WHERE status = 'cancelled' ORDER BY id"))
        assert list(cancelled.scalars()) == without_copy
