"""One item, one run: however often it is announced, however many workers hear of it (reliability 15)."""

from __future__ import annotations

from collections import Counter

from models.work import Status
from tests.fixtures.scripted.node import NEVER_SECONDS, Nsqd, ScriptedNode, eventually

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


def test_many_items_announced_many_times_go_through_every_stage_once(node: ScriptedNode) -> None:
    for name in "abc":
        node.start(name, concurrency=2)
    items = [node.make_item(number) for number in range(12)]
    for item in items * ANNOUNCEMENTS:
        node.announce(item)
    for item in items:
        node.await_status(item, Status.SUCCESS)
    runs = Counter((entry.item, entry.stage) for entry in node.script.journal("start"))
    assert runs == {(item, stage): 1 for item in items for stage in ("copy", "validate", "store")}
    assert node.intents() == []


def test_two_workers_share_the_work(node: ScriptedNode) -> None:
    node.script.write("copy", {"hold": "go"})
    for name in "ab":
        node.start(name, "copy", concurrency=2)
    items = [node.make_item(number) for number in range(6)]
    for item in items:
        node.announce(item)
    eventually(lambda: len(node.script.journal("start")) == 4)
    assert Counter(entry.worker for entry in node.script.journal("start")) == {"a": 2, "b": 2}
    node.script.open_gate("go")
    eventually(lambda: len(node.script.journal("end")) == len(items))


def test_a_worker_without_a_free_slot_takes_no_message_and_another_worker_gets_it(
    nsq_node: ScriptedNode, nsqd: Nsqd
) -> None:
    topic, channel = nsq_node.topic("copy"), nsq_node.topic("copy").replace("_topic", "_channel")
    nsq_node.script.write("copy", {"hold": "go"})
    busy = nsq_node.start("busy", "copy", sweep_seconds=NEVER_SECONDS).await_started()
    first, second = nsq_node.make_item(1), nsq_node.make_item(2)
    nsq_node.announce(first)
    nsq_node.await_run(first)
    eventually(lambda: nsqd.channel(topic, channel)["clients"][0]["ready_count"] == 0)
    eventually(lambda: nsqd.channel(topic, channel)["in_flight_count"] == 0)
    # The first may have been found by looking, at the worker's start, before its message came and went back: then
    # that waits, too, until somebody has a free slot.
    given_back = nsqd.channel(topic, channel)["requeue_count"]
    nsq_node.announce(second)
    eventually(lambda: nsqd.channel(topic, channel)["depth"] >= 1)
    nsq_node.start("idle", "copy", sweep_seconds=NEVER_SECONDS)
    nsq_node.await_run(second)
    assert [entry.worker for entry in nsq_node.script.journal("start")] == ["busy", "idle"]
    eventually(lambda: nsqd.channel(topic, channel)["depth"] <= given_back)
    channel_now = nsqd.channel(topic, channel)
    # nsqd may send a message that waits, too, before it hears that the idle one has no more room.
    assert channel_now["requeue_count"] <= 2 * given_back, "nobody took what he cannot run"
    assert channel_now["timeout_count"] == 0
    assert busy.runs


def test_a_worker_that_has_a_free_slot_left_hears_of_the_next_item_at_once(nsq_node: ScriptedNode) -> None:
    """Also while it runs one, and after messages that brought no work: a reader never goes deaf."""
    nsq_node.script.write("copy", {"hold": "go"})
    nsq_node.start("a", "copy", concurrency=2, sweep_seconds=NEVER_SECONDS).await_started()
    first, second = nsq_node.make_item(1), nsq_node.make_item(2)
    nsq_node.announce(first)
    nsq_node.await_run(first)
    for _ in range(ANNOUNCEMENTS):
        nsq_node.announce(first)
    nsq_node.announce(second)
    nsq_node.await_run(second, within=2)


def test_what_no_message_announces_is_found_by_the_sweep(node: ScriptedNode) -> None:
    node.start("a").await_started()
    node.await_status(node.make_item(), Status.SUCCESS)
