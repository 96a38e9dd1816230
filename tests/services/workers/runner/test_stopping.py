"""Signals: what runs is finished, nothing new is taken, and the exit is in order (reliability 10)."""

from __future__ import annotations

import signal
import time

from models.work import Status
from tests.fixtures.scripted.node import MakeNode, ScriptedNode, WorkerProcess, eventually


def state(node: ScriptedNode, worker: WorkerProcess) -> str | None:
    row = node.heartbeat(worker)
    return row.state if row else None


def holding(node: ScriptedNode, **work: float) -> tuple[WorkerProcess, int]:
    """A worker in the middle of a stage that ends when the gate `go` opens."""
    node.script.write("copy", {"hold": "go"})
    item = node.make_item()
    worker = node.start("a", "copy", **work)
    node.await_run(item)
    return worker, item


def test_sigterm_finishes_what_runs_takes_nothing_new_and_exits_in_order(node: ScriptedNode) -> None:
    worker, item = holding(node, heartbeat_seconds=60)
    worker.signal(signal.SIGTERM)
    eventually(lambda: state(node, worker) == "stopping")
    row = node.heartbeat(worker)
    assert row is not None
    assert row.running == 1
    late = node.make_item(2)
    node.announce(late)
    node.script.open_gate("go")
    assert worker.wait() == 0
    assert (node.item(item).stage, node.item(item).status) == ("validate", Status.PENDING)
    assert (node.item(late).status, node.item(late).attempts) == (Status.PENDING, 0)
    assert node.script.journal("start", item=late) == []
    assert state(node, worker) == "stopped"


def test_an_idle_worker_stops_at_once(node: ScriptedNode, make_node: MakeNode, migrated_url: str) -> None:
    """However long it would have polled; PostgreSQL's listener must not sit out its time."""
    listening = make_node(migrated_url, {"kind": "embedded", "poll_seconds": 30})
    for idle in (node.start("a"), listening.start("b")):
        idle.await_started()
        began = time.monotonic()
        idle.signal(signal.SIGTERM)
        assert idle.wait() == 0
        assert time.monotonic() - began < 3


def test_a_second_sigterm_interrupts_and_puts_the_item_back_as_if_it_had_never_been_tried(
    node: ScriptedNode,
) -> None:
    worker, item = holding(node)
    worker.signal(signal.SIGTERM)
    eventually(lambda: worker.log("halt"))
    assert node.script.journal("stopped") == []
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    back = node.item(item)
    assert (back.stage, back.status, back.attempts, back.lease_owner) == ("copy", Status.PENDING, 0, None)
    assert "told twice to stop" in back.note
    node.script.open_gate("go")
    node.start("b", "copy")
    node.await_run(item, runs=2, within=2)


def test_sigusr2_halts_and_a_second_one_takes_the_halt_back(node: ScriptedNode) -> None:
    worker, item = holding(node)
    worker.signal(signal.SIGUSR2)
    eventually(lambda: state(node, worker) == "draining")
    late = node.make_item(2)
    node.announce(late)
    worker.signal(signal.SIGUSR2)
    eventually(lambda: state(node, worker) == "running")
    node.script.open_gate("go")
    node.await_run(late)
    eventually(lambda: node.item(late).stage == node.item(item).stage == "validate")
    assert worker.runs


def test_sigusr2_alone_finishes_what_runs_and_exits(node: ScriptedNode) -> None:
    worker, item = holding(node)
    worker.signal(signal.SIGUSR2)
    eventually(lambda: worker.log("halt"))
    node.script.open_gate("go")
    assert worker.wait() == 0
    assert node.item(item).stage == "validate"


def test_what_is_not_finished_when_the_time_to_stop_is_over_is_put_back(embedded_node: ScriptedNode) -> None:
    """The time counts from the signal, however many other runs end meanwhile."""
    node = embedded_node
    one, two = node.make_item(1), node.make_item(2)
    node.script.write("copy", {"hold": "one"}, item=one)
    node.script.write("copy", {"hold": "two"}, item=two)
    worker = node.start("a", "copy", concurrency=2, stop_timeout_seconds=2.0)
    for item in (one, two):
        node.await_run(item)
    worker.signal(signal.SIGTERM)
    told = time.monotonic()
    eventually(lambda: worker.log("halt"))
    eventually(lambda: time.monotonic() - told > 1.0)
    node.script.open_gate("one")
    assert worker.wait() == 0
    assert time.monotonic() - told < 2.9, "the end of another run must not start the time anew"
    assert (node.item(one).stage, node.item(one).status) == ("validate", Status.PENDING)
    assert (node.item(two).stage, node.item(two).status, node.item(two).attempts) == ("copy", Status.PENDING, 0)
    assert "the time to finish is over" in node.item(two).note
