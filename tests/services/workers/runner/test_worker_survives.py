"""What one item or one chore does wrong stops no other."""

from __future__ import annotations

import signal

from sqlalchemy import text

from models.work import Status
from tests.fixtures.scripted.node import Nsqd, ScriptedNode, eventually


def test_chores_that_hang_keep_nobody_from_working_nor_from_stopping(node: ScriptedNode) -> None:
    worker = node.start("a", hanging_chores=5).await_started()
    item = node.make_item()
    node.announce(item)
    node.await_status(item, Status.SUCCESS)
    began = node.later(0)
    eventually(lambda: (row := node.heartbeat(worker)) is not None and row.seen_at > began)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_an_item_that_cannot_even_be_read_is_put_off_and_stands_in_nobodys_way(
    embedded_node: ScriptedNode,
) -> None:
    """On SQLite anything may stand in a column; an operator with a shell is enough."""
    node = embedded_node
    broken, sound = node.make_item(1, run_after=node.later(-3600)), node.make_item(2)
    with node.sessions.begin() as session:
        session.execute(text("UPDATE work_items SET manifest = '{broken' WHERE id = :id"), {"id": broken})
    worker = node.start("a")
    node.await_status(sound, Status.SUCCESS)
    query = text("SELECT status, attempts, needs_attention, note, run_after > CURRENT_TIMESTAMP FROM work_items")
    with node.sessions() as session:
        status, attempts, attention, note, put_off = session.execute(query).first() or ()
    assert (status, attempts, attention, put_off) == ("pending", 0, 1, 1)
    assert "repair it or cancel the item" in note
    assert worker.runs


def test_a_message_that_cannot_be_judged_now_is_judged_again(nsq_node: ScriptedNode, nsqd: Nsqd) -> None:
    """The database is away for a moment just when the message comes."""
    node = nsq_node
    node.start("a", "copy", sweep_seconds=600).await_started()
    topic, item = node.topic("copy"), node.make_item()
    with node.engine.connect() as locker:
        locker.execute(text("LOCK TABLE work_items IN ACCESS EXCLUSIVE MODE"))
        node.announce(item)
        channel = topic.replace("_topic", "_channel")
        eventually(lambda: nsqd.channel(topic, channel).get("in_flight_count") == 1)
        pids = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        locker.execute(text(pids))
    node.await_run(item, within=10)
    eventually(lambda: nsqd.channel(topic, channel)["in_flight_count"] == 0)
