"""The database goes away under running stages: what is done is written once it is back, and nothing runs twice;
what may be another's by then is stopped (reliability 20, 39)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from dpn.database import open_engine
from models.work import Status
from tests.conftest import Services
from tests.fixtures.databases import migrate
from tests.fixtures.scripted.node import (
    FAST,
    LEASE_SECONDS,
    NEVER_SECONDS,
    MakeNode,
    ScriptedNode,
    WorkerProcess,
    eventually,
)

AWAY = "the database is away: trying again"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A PostgreSQL server that may be stopped."""
    services = Services(tmp_path_factory.mktemp("postgresql"))
    services.up("postgresql")
    yield services
    services.down(wipe=True)


@pytest.fixture
def node(server: Services, make_node: MakeNode, request: pytest.FixtureRequest) -> ScriptedNode:
    url = server.up("postgresql")["url"]
    name = f"test_{abs(hash(request.node.name))}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    own = url.rpartition("/")[0] + f"/{name}"
    engine = open_engine(own)
    migrate(engine)
    engine.dispose()
    return make_node(own, {"kind": "embedded", "poll_seconds": 1.0})


@contextmanager
def away(server: Services) -> Iterator[None]:
    """The server is stopped, and comes back on the same port."""
    server.down("postgresql")
    try:
        yield
    finally:
        server.up("postgresql")


def holding(node: ScriptedNode, **work: Any) -> tuple[WorkerProcess, int]:
    node.script.write("copy", {"hold": "go"}, {})
    item = node.make_item()
    worker = node.start("a", "copy", **work)
    eventually(lambda: node.script.journal("waiting", item=item))
    return worker, item


def test_an_outcome_is_written_once_the_database_is_back_and_nothing_runs_twice(
    node: ScriptedNode, server: Services
) -> None:
    worker, item = holding(node, lease_seconds=60)
    with away(server):
        node.script.open_gate("go")
        eventually(lambda: worker.log(AWAY))
    eventually(lambda: node.item(item).stage == "validate")
    assert [entry.event for entry in node.script.journal()] == ["start", "waiting", "end"]
    assert node.item(item).lease_token == 1
    assert worker.log("stage ended")[-1]["outcome"] == "done"
    node.await_run(node.make_item(2), within=5)


def test_progress_that_cannot_be_saved_now_is_saved_once_the_database_is_back(
    node: ScriptedNode, server: Services
) -> None:
    """A save in the middle of hours of work must not end the work."""
    node.script.write("copy", {"hold": "before", "then": {"save": "got that far", "hold": "after"}})
    item = node.make_item()
    worker = node.start("a", "copy", lease_seconds=60)
    eventually(lambda: node.script.journal("waiting", item=item))
    with away(server):
        node.script.open_gate("before")
        eventually(lambda: worker.log(AWAY))
    eventually(lambda: node.item(item).note == "got that far")
    node.script.open_gate("after")
    eventually(lambda: node.item(item).stage == "validate")
    assert len(node.script.journal("start", item=item)) == 1


def test_after_a_whole_lease_without_the_database_the_work_is_stopped(
    node: ScriptedNode, server: Services
) -> None:
    worker, item = holding(node)
    with away(server):
        stopped = eventually(lambda: node.script.journal("stopped", item=item))
        assert "away for a whole lease" in stopped[0].detail
    node.await_run(item, runs=2)
    eventually(lambda: node.item(item).stage == "validate")
    assert node.item(item).lease_token == 2
    assert worker.runs


def test_a_database_that_hangs_does_not_stop_the_clock_of_the_lease(node: ScriptedNode, server: Services) -> None:
    """Its connections stand, but no answer comes: as when a network parts. Another worker may hold the item."""
    _, item = holding(node)
    pids = family(server.up("postgresql")["pid"])
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.time()
        stopped = eventually(lambda: node.script.journal("stopped", item=item), within=10)
        assert stopped[0].at - began < 2 * LEASE_SECONDS
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    node.await_run(item, runs=2)


def test_a_worker_that_is_told_twice_to_stop_does_not_wait_for_the_database(
    node: ScriptedNode, server: Services
) -> None:
    worker, item = holding(node, lease_seconds=60)
    with away(server):
        node.script.open_gate("go")
        eventually(lambda: worker.log(AWAY))
        worker.signal(signal.SIGTERM)
        eventually(lambda: worker.log("halt"))
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert worker.log("the outcome is lost: the stage runs again once its lease has run out")
    assert (node.item(item).stage, node.item(item).status) == ("copy", Status.RUNNING)


def test_workers_that_listen_to_the_database_hear_again_once_it_is_back(
    server: Services, node: ScriptedNode
) -> None:
    node.broker_settings["poll_seconds"] = 30
    node.start("a", "copy", sweep_seconds=NEVER_SECONDS).await_started()
    with away(server):
        pass
    for number in range(2):
        item = node.make_item(number)
        node.announce(item)
        node.await_run(item, within=5)


def test_a_database_that_is_locked_for_longer_than_a_lease_stops_the_work(embedded_node: ScriptedNode) -> None:
    """SQLite has one writer at a time: a process that hangs in the middle of a write holds up all others."""
    node = embedded_node
    _, item = holding(node)
    with node.engine.connect() as writer:
        writer.execute(text("UPDATE work_items SET note = note"))
        began = time.time()
        stopped = eventually(lambda: node.script.journal("stopped", item=item))
        assert stopped[0].at - began < 2 * FAST["lease_seconds"]
    node.await_run(item, runs=2)
    eventually(lambda: node.item(item).stage == "validate")


def family(pid: int) -> list[int]:
    """The process and its children."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return [pid, *(child for child, parent in parents.items() if parent == pid)]
