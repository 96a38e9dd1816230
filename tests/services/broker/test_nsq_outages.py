"""nsqd and nsqlookupd may die, lose all they hold, or never be there: every item finishes all the same
(reliability 11 to 13)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from models.work import Status
from tests.conftest import Services
from tests.fixtures.scripted.node import (
    NEVER_SECONDS,
    MakeNode,
    Nsqd,
    ScriptedNode,
    eventually,
    nsq_settings,
)

BACK_SECONDS = 8.0
"""Until readers have found a restarted nsqd again."""
QUICK_SECONDS = 2.0
"""A wake-up by message on a busy machine; a sweep would take ten minutes in these tests."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """nsqd and nsqlookupd that these tests may kill."""
    services = Services(tmp_path_factory.mktemp("nsq"))
    services.up("nsqd")
    yield services
    services.down(wipe=True)


@pytest.fixture
def entry(servers: Services) -> dict[str, Any]:
    return servers.up("nsqd")


NOBODY_LISTENS = "127.0.0.1:9"


def readers_are_ready(node: ScriptedNode, entry: dict[str, Any]) -> bool:
    """Whether nsqd knows a reader of the first stage that would take a message."""
    topic = node.topic("copy")
    clients = Nsqd(entry["http"]).channel(topic, topic.replace("_topic", "_channel")).get("clients") or []
    return any(client["ready_count"] for client in clients)


def kill_and_wipe(servers: Services) -> None:
    os.kill(servers.up("nsqd")["pid"], signal.SIGKILL)
    servers.down("nsqd", wipe=True)


def test_every_item_finishes_though_nsqd_is_killed_and_its_data_wiped_while_they_wait(
    servers: Services, entry: dict[str, Any], make_node: MakeNode, sqlite_url: str
) -> None:
    node = make_node(sqlite_url, nsq_settings(entry))
    node.script.write("copy", {"hold": "go"})
    items = [node.make_item(number) for number in range(6)]
    for item in items:
        node.announce(item)
    node.start("a")
    eventually(lambda: node.script.journal("start"))
    kill_and_wipe(servers)
    servers.up("nsqd")
    node.script.open_gate("go")
    for item in items:
        node.await_status(item, Status.SUCCESS)
    assert len(node.script.journal("start")) == 3 * len(items)


def test_items_finish_by_the_sweep_while_nsqd_is_down_and_are_announced_once_it_is_there(
    servers: Services, entry: dict[str, Any], make_node: MakeNode, sqlite_url: str
) -> None:
    servers.down("nsqd", "nsqlookupd")
    node = make_node(sqlite_url, nsq_settings(entry))
    node.start("a", "copy", "validate")
    item = node.make_item()
    eventually(lambda: node.item(item).stage == "store")
    assert {topic for topic, _ in node.intents()} == {node.topic("validate"), node.topic("store")}
    servers.up("nsqd")
    eventually(lambda: node.intents() == [])
    assert Nsqd(entry["http"]).topic(node.topic("store"))["message_count"] == 1
    node.start("b", "store", sweep_seconds=NEVER_SECONDS)
    node.await_status(item, Status.SUCCESS)


@pytest.mark.parametrize(("lookup", "static"), [(True, False), (False, True)], ids=["looked up", "given"])
def test_readers_come_back_to_an_nsqd_that_was_restarted(
    servers: Services, entry: dict[str, Any], make_node: MakeNode, sqlite_url: str, lookup: bool, static: bool
) -> None:
    node = make_node(sqlite_url, nsq_settings(entry, lookup=lookup, static=static))
    worker = node.start("a", "copy", sweep_seconds=NEVER_SECONDS).await_started()
    eventually(lambda: readers_are_ready(node, entry))
    servers.down("nsqd")
    servers.up("nsqd")
    eventually(lambda: readers_are_ready(node, entry), within=BACK_SECONDS)
    for number in range(3):
        item = node.make_item(number)
        node.announce(item)
        node.await_run(item, within=QUICK_SECONDS)
    assert worker.log(), "and each of its lines is JSON, those about lost connections, too"
    assert sum("closed" in line["event"] for line in worker.log()) <= 4, "and they do not fill the log"


def test_given_nsqds_are_read_and_found_again_while_nsqlookupd_is_down(
    servers: Services, entry: dict[str, Any], make_node: MakeNode, sqlite_url: str
) -> None:
    settings = nsq_settings(entry, static=True)
    settings["nsq"]["nsqlookupd_http_addresses"] = [NOBODY_LISTENS]
    node = make_node(sqlite_url, settings)
    worker = node.start("a", "copy", sweep_seconds=NEVER_SECONDS).await_started()
    for restarted in (False, True):
        if restarted:
            servers.down("nsqd")
            servers.up("nsqd")
        eventually(lambda: readers_are_ready(node, entry), within=BACK_SECONDS)
        item = node.make_item(restarted)
        node.announce(item)
        node.await_run(item, within=QUICK_SECONDS)
    assert any("lookupd" in line["event"] for line in worker.log()), "an operator is told"
