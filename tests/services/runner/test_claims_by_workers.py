"""One item, one run: however often it is announced, however many workers hear of it."""

from __future__ import annotations

from tests.fixtures.scripted.node import NEVER_SECONDS, ScriptedNode, eventually

ANNOUNCEMENTS = 5


def test_a_message_delivered_five_times_to_two_workers_runs_the_stage_once(node: ScriptedNode) -> None:
    workers = [node.start(name, "copy", sweep_seconds=NEVER_SECONDS).await_started() for name in "ab"]
    node.script.write("copy", {"hold": "go"})
    item = node.make_item()
    for _ in range(ANNOUNCEMENTS):
        node.announce(item)
    node.await_run(item)
    for _ in range(ANNOUNCEMENTS):
        node.announce(item)
    node.script.open_gate("go")
    eventually(lambda: node.item(item).stage == "validate")
    for _ in range(ANNOUNCEMENTS):
        node.announce(item)
    second = node.make_item(2)
    node.announce(second)
    node.await_run(second)
    assert len(node.script.journal("start", item=item)) == 1
    assert node.item(item).lease_token == 1
    assert all(worker.runs for worker in workers)
