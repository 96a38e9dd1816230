"""`dpn ingest submit --dry-run`: what it tells, and that nothing comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from typer.testing import CliRunner, Result

from dpn.cli.main import app
from dpn.database import Sessions, reading
from dpn.registry.catalogue import MEMBERS
from dpn.registry.catalogue.rows import save
from dpn.registry.records import MemberRecord
from models.work import AuditEvent, Deposit, WorkItem
from tests.fixtures.made_bags import write_folder
from tests.fixtures.records import LONG_AGO, uuid

MEMBER = uuid(0xFFFF)

Submit = Callable[..., Result]


@pytest.fixture
def submit(config: Path, sessions: Sessions) -> Submit:
    member = MemberRecord(
        member_id=MEMBER, name="A library", email="a@example.org", created_at=LONG_AGO, updated_at=LONG_AGO
    )
    with sessions.begin() as session:
        save(session, MEMBERS, [member])

    def run(source: Path, *more: str) -> Result:
        words = ["ingest", "submit", str(source), "--member", MEMBER, "--local-id", "a thing", *more]
        return CliRunner().invoke(app, ["--config", str(config), *words])

    return run


def made(sessions: Sessions) -> int:
    with reading(sessions) as session:
        return sum(
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (WorkItem, Deposit, AuditEvent)
        )


def test_where_a_deposit_stands_is_told_and_one_that_came_to_nothing_is_exit_1(
    submit: Submit, config: Path, sessions: Sessions, tmp_path: Path
) -> None:
    bag = json.loads(submit(write_folder(tmp_path / "source", {"a": b"1"}), "--json").stdout)["bag"]

    def status(which: str) -> Result:
        return CliRunner().invoke(app, ["--config", str(config), "ingest", "status", which])

    assert status(bag).exit_code == 0
    assert status(bag).stdout.startswith("item ")
    for ended in ("failed", "cancelled"):
        with sessions.begin() as session:
            session.execute(update(WorkItem).values(status=ended))
        assert status(bag).exit_code == 1
    assert (status(uuid(7)).exit_code, status(uuid(7)).stdout) == (1, "")


def test_a_dry_run_tells_every_unfit_name_and_deposits_nothing(
    submit: Submit, sessions: Sessions, tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "source", {"a": b"1", "end ": b"2", "two\u2028lines": b"3"})
    ended = submit(source, "--dry-run")
    assert ended.exit_code == 1
    assert ended.stdout.splitlines()[-1] == f"2 reasons why {str(source)!r} cannot be bagged"
    assert "end '" in ended.stdout
    assert "two\\u2028lines'" in ended.stdout
    document = json.loads(submit(source, "--dry-run", "--json").stdout)
    assert (document["source"], document["fit"], len(document["unfit"])) == (str(source), False, 2)
    assert made(sessions) == 0


def test_a_dry_run_of_what_can_be_deposited_says_so_and_deposits_nothing(
    submit: Submit, sessions: Sessions, tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "source", {"a": b"1"})
    ended = submit(source, "--dry-run")
    assert (ended.exit_code, ended.stdout) == (0, f"{str(source)!r} can be bagged\n")
    assert made(sessions) == 0
    assert submit(source).exit_code == 0
    assert made(sessions) > 0


def test_a_dry_run_refuses_what_submitting_refuses(submit: Submit, sessions: Sessions, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", {"a": b"1"})
    for words in (["--title", "two\nlines"], ["--rights", uuid(5)], ["--new-version-of", uuid(6)]):
        tried, submitted = submit(source, *words, "--dry-run"), submit(source, *words)
        assert (tried.exit_code, tried.stderr) == (submitted.exit_code, submitted.stderr)
        assert tried.exit_code != 0
    assert submit(tmp_path / "gone", "--dry-run").exit_code != 0
    assert made(sessions) == 0
