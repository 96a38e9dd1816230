"""`dpn peer retire`: says what is open and what is kept; while work is open nothing ends without --anyway."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from dpn.access import tokens
from dpn.cli.main import app
from dpn.clock import SystemClock
from dpn.database import Sessions, insert_missing
from dpn.registry.catalogue import BAGS, NODES, RESTORES, TRANSFERS, find
from dpn.registry.catalogue.rows import save
from dpn.registry.records import Agreement, RestoreRecord
from dpn.work.items import new_item
from models.preservation import StoredCopy
from models.work import WorkItem
from tests.fixtures.records import LONG_AGO, a_bag, a_transfer, uuid
from workers.pipelines import PIPELINES

NORTH = """
[peers.north]
api_root = "https://dpn.north.example.org"
token = "hunter2"
rsync.hosts = ["dpn.north.example.org"]
"""


@pytest.fixture
def node(config: Path, sessions: Sessions) -> Path:
    """A node with a peer that has a token, keeps a bag of ours, and has a bag of its with us."""
    config.write_text(config.read_text() + NORTH)
    assert CliRunner().invoke(app, ["--config", str(config), "db", "upgrade"]).exit_code == 0
    with sessions.begin() as session:
        tokens.issue(session, "north", now=SystemClock().now())
        tokens.issue(session, "west", now=SystemClock().now())
        ours = {"admin_node": "south", "ingest_node": "south"}
        kept = a_bag(1, **ours, replicating_nodes=("south", "north"))
        save(session, BAGS, [kept, a_bag(2), a_bag(3, **ours, replicating_nodes=("south",))])
        copy = {"store": "main", "key": "k", "url": "u", "size": 1, "sha256": "0", "tag_manifest_sha256": "0"}
        session.add(StoredCopy(bag=uuid(2), **copy, receipt={}, stored_at=LONG_AGO, due_at=LONG_AGO))
    return config


@pytest.fixture
def with_open_work(node: Path, sessions: Sessions) -> Path:
    """A bag that it is to keep, one that we asked it for, and an item that speaks with it."""
    asked = RestoreRecord(
        restore_id=uuid(9), from_node="north", to_node="south", bag=uuid(1), protocol="rsync",
        created_at=LONG_AGO, updated_at=LONG_AGO,
    )  # fmt: skip
    row = new_item(
        task="replication", identifier="1", remote_node="north", note="", manifest={}, pipelines=PIPELINES,
        clock=SystemClock(),
    )  # fmt: skip
    with sessions.begin() as session:
        save(session, TRANSFERS, [a_transfer(1, bag=3, from_node="south", to_node="north")])
        save(session, RESTORES, [asked])
        insert_missing(session, WorkItem, [row])
    return node


def retire(config: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), "peer", "retire", "north", *options])


def agreements(sessions: Sessions) -> int:
    with sessions() as session:
        ours = find(session, NODES, "south")
    assert ours is not None
    return sum("north" in getattr(ours, name) for name in Agreement)


def counting(sessions: Sessions) -> list[str]:
    """Whose tokens count."""
    with sessions() as session:
        return [one.owner for one in tokens.issued(session) if one.counts(SystemClock().now())]


def items(sessions: Sessions) -> list[tuple[str, str, str]]:
    with sessions() as session:
        found = session.scalars(select(WorkItem).order_by(WorkItem.id))
        return [(item.task, item.identifier, item.status) for item in found]


def cancelled(sessions: Sessions) -> list[bool]:
    with sessions() as session:
        given, back = find(session, TRANSFERS, uuid(0x1001)), find(session, RESTORES, uuid(9))
    assert given is not None
    assert back is not None
    return [given.cancelled, back.cancelled]


def test_while_work_is_open_it_is_told_and_nothing_ends(with_open_work: Path, sessions: Sessions) -> None:
    refused = retire(with_open_work)
    assert refused.exit_code == 1
    assert refused.stdout.splitlines() == [
        "Open: items of ours that speak with it: 1",
        "Open: bags that it is to keep for us: 1",
        "Open: bags that we asked it for: 1",
        "Kept: bags of ours that it is said to keep: 1",
        "Kept: of these, with fewer than 3 other copies: 1",
        "Kept: bags of its that we keep: 1",
        "Items: 1 (dpn item show, dpn item cancel)",
    ]
    assert "nothing was changed" in refused.stderr
    assert (agreements(sessions), counting(sessions)) == (4, ["north", "west"])
    assert cancelled(sessions) == [False, False]


def test_drained_nothing_new_begins_and_what_is_open_goes_on(with_open_work: Path, sessions: Sessions) -> None:
    assert retire(with_open_work, "--drain").exit_code == 0
    assert (agreements(sessions), counting(sessions)) == (0, ["north", "west"])
    assert cancelled(sessions) == [False, False]
    assert retire(with_open_work).exit_code == 1


def test_anyway_our_own_transfers_with_it_are_cancelled_so_that_others_are_asked(
    with_open_work: Path, sessions: Sessions
) -> None:
    done = retire(with_open_work, "--anyway")
    assert done.exit_code == 0
    assert cancelled(sessions) == [True, True]
    assert (agreements(sessions), counting(sessions)) == (0, ["west"])
    with sessions() as session:
        given = find(session, TRANSFERS, uuid(0x1001))
        assert given is not None
        assert (given.cancel_reason, given.cancel_reason_detail) == ("other", "south no longer works with north")
        assert given.updated_at > LONG_AGO, "north's sync sees it"


def test_anyway_items_end_it_hears_of_them_while_the_settings_name_it_and_none_is_left_after(
    with_open_work: Path, sessions: Sessions
) -> None:
    stored = new_item(
        task="replication", identifier="2", remote_node="north", note="", manifest={"receipt": {"url": "u"}},
        pipelines=PIPELINES, clock=SystemClock(),
    )  # fmt: skip
    with sessions.begin() as session:
        insert_missing(session, WorkItem, [stored])
    assert (
        "Not ended, for they say what it must hear, or stored its bag: 2"
        in retire(with_open_work, "--anyway").stdout
    )
    assert items(sessions) == [
        ("replication", "1", "cancelled"), ("replication", "2", "pending"), ("notice", "1", "pending")
    ]  # fmt: skip
    with_open_work.write_text(with_open_work.read_text().replace(NORTH, ""))
    assert retire(with_open_work, "--anyway").exit_code == 0
    assert [status for _, _, status in items(sessions)] == ["cancelled"] * 3
    assert "Open" not in retire(with_open_work).stdout


def test_without_open_work_it_ends_and_what_is_left_for_root_is_told(node: Path, sessions: Sessions) -> None:
    done = retire(node)
    assert done.exit_code == 0
    assert (agreements(sessions), counting(sessions)) == (0, ["west"])
    assert f"remove [peers.north] and what is below it from {node}" in done.stdout
    with sessions() as session:
        assert find(session, BAGS, uuid(2)) is not None
        assert session.get(StoredCopy, uuid(2)) is not None
    node.write_text(node.read_text().replace(NORTH, ""))
    again = retire(node)
    assert again.exit_code == 0
    assert "Left to do" not in again.stdout
