"""nsqd's own limits do not matter: messages are answered at the claim, never held during work (reliability 14)."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Services
from tests.fixtures.scripted.node import NEVER_SECONDS, MakeNode, Nsqd, eventually, nsq_settings

MSG_TIMEOUT_SECONDS = 0.5
MAX_MSG_TIMEOUT_SECONDS = 1.0
"""nsqd's defaults are 60 s and 15 min."""


@pytest.fixture
def short_lived(own_services: Services) -> dict[str, str]:
    return own_services.up(
        "nsqd", msg_timeout=f"{MSG_TIMEOUT_SECONDS}s", max_msg_timeout=f"{MAX_MSG_TIMEOUT_SECONDS}s"
    )


def test_a_stage_several_times_longer_than_nsqd_lets_a_message_live_runs_once(
    short_lived: dict[str, str], make_node: MakeNode, sqlite_url: str
) -> None:
    node, nsqd = make_node(sqlite_url, nsq_settings(short_lived)), Nsqd(short_lived["http"])
    topic = node.topic("copy")
    node.script.write("copy", {"hold": "go"})
    for name in "ab":
        node.start(name, "copy", sweep_seconds=NEVER_SECONDS).await_started()
    item = node.make_item()
    node.announce(item)
    node.await_run(item)
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 4 * MAX_MSG_TIMEOUT_SECONDS)
    channel = nsqd.channel(topic, topic.replace("_topic", "_channel"))
    node.script.open_gate("go")
    eventually(lambda: node.item(item).stage == "validate")
    assert (channel["message_count"], channel["in_flight_count"], channel["depth"]) == (1, 0, 0)
    assert (channel["requeue_count"], channel["timeout_count"]) == (0, 0)
    assert [(entry.event, entry.attempts) for entry in node.script.journal()] == [
        ("start", 1), ("waiting", 1), ("end", 1)
    ]  # fmt: skip
