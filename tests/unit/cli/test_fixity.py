"""`dpn fixity`: what it prints is true, and its exit status is for cron."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update
from typer.testing import CliRunner

from dpn.audit.trail import Event, EventType, record
from dpn.cli.main import app
from dpn.database import Sessions
from dpn.fixity.begin import copy_facts
from dpn.fixity.copies import checked, remember
from models.manifests import Receipt
from models.preservation import StoredCopy

BAG = "00000000-0000-4000-a000-000000000001"
DIGEST = "ab" * 32
EVERY_DAYS = 730.0


def store(sessions: Sessions, at: datetime, size: int) -> None:
    receipt = Receipt(
        store="main", url="file:///store/1", key="1.tar", size=size, sha256=DIGEST, part_size=size,
        part_sha256=[DIGEST], confirmed_at=at, confirmed_by="read-back",
    )  # fmt: skip
    with sessions.begin() as session:
        remember(session, receipt, bag=BAG, tag_manifest_sha256=DIGEST, item_id=1, every_days=EVERY_DAYS)


def fixity(config: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--config", str(config), "fixity", *words])
    return result.exit_code, result.stdout


def test_what_is_proven_ends_with_0_and_what_is_overdue_or_failed_with_1(sessions: Sessions, config: Path) -> None:
    now = datetime.now(UTC)
    store(sessions, now - timedelta(days=5), 500)
    assert fixity(config, "report")[0] == 0
    assert fixity(config, "plan")[0] == 0
    with sessions.begin() as session:
        read = copy_facts(session.get_one(StoredCopy, BAG))
        checked(session, read, good=False, at=now, every_days=EVERY_DAYS)
    code, printed = fixity(config, "report", "--json")
    (ours,) = json.loads(printed)["ours"]
    assert (code, ours["failed"], ours["overdue"]) == (1, 1, 0)
    with sessions.begin() as session:
        session.execute(update(StoredCopy).values(checked_at=None))
        checked(session, read, good=True, at=now - timedelta(days=EVERY_DAYS + 2), every_days=EVERY_DAYS)
    code, printed = fixity(config, "report", "--json")
    (ours,) = json.loads(printed)["ours"]
    assert (code, ours["failed"], ours["overdue"], ours["checked"]) == (1, 0, 1, 0)
    assert json.loads(fixity(config, "plan", "--json")[1])["overdue"]["checks"] == 1


def test_the_history_of_a_bag_that_nothing_is_known_of_is_exit_1(sessions: Sessions, config: Path) -> None:
    with sessions.begin() as session:
        record(session, [Event(EventType.INGESTION, BAG, "success")], agent="a test", at=datetime.now(UTC))
    assert fixity(config, "history", BAG)[0] == 0
    code, printed = fixity(config, "history", BAG, "--json")
    assert (code, len(json.loads(printed))) == (0, 1)
    unknown = BAG.replace("0001", "0002")
    assert fixity(config, "history", unknown) == (1, "")
    assert fixity(config, "history", unknown, "--json") == (1, "[]\n")


def test_a_copy_beyond_a_limit_breaks_the_promise_in_words(sessions: Sessions, config: Path) -> None:
    store(sessions, datetime.now(UTC), 5000)
    code, printed = fixity(config, "plan", "--days", "2")
    assert code == 1
    assert "5000 bytes, is beyond a limit" in printed
    assert "The promise cannot be kept." in printed


def test_the_levels_are_said_in_words(sessions: Sessions, config: Path) -> None:
    store(sessions, datetime.now(UTC), 500)
    printed = " ".join(fixity(config, "report")[1].split())
    assert "level 1 of 4" in printed
    assert "For level 2: checksums are kept in another place, too: not so" in printed
