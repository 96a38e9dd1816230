"""kill -9 and long pauses: the item moves again, and a worker that comes back late changes nothing
(reliability 1, 4, 39)."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from models.work import Status, Task, WorkItem
from tests.fixtures.scripted.node import LEASE_SECONDS, NEVER_SECONDS, ScriptedNode, eventually
from tests.fixtures.scripted.script import now
from workers.runner.stage_runner import ASK_AGAIN_SECONDS

CLAIM_SECONDS = 1.0
"""On a busy machine, from an item being due to its stage running; the sweep of these tests takes a quarter."""


def what_counts(item: WorkItem) -> dict[str, Any]:
    """Of an item's end: all that does not depend on time or on how often it was tried."""
    manifest = {**item.manifest, "summaries": sorted(item.manifest["summaries"])}
    columns = ("stage", "status", "note", "lease_owner", "staging_volume", "needs_attention", "attempts")
    return {"manifest": manifest, **{column: getattr(item, column) for column in columns}}


def test_after_kill_9_another_worker_goes_on_within_two_leases_and_ends_like_an_undisturbed_run(
    node: ScriptedNode,
) -> None:
    undisturbed = node.make_item(1)
    doomed = node.start("doomed")
    node.await_status(undisturbed, Status.SUCCESS)
    node.script.write("validate", {"hold": "never"}, {})
    item = node.make_item(2)
    node.await_run(item, "validate")
    node.start("other").await_started()
    doomed.kill()
    killed_at = now()
    node.await_run(item, "validate", runs=2)
    again = node.script.journal("start", item=item, stage="validate")[1]
    assert again.at - killed_at < 2 * LEASE_SECONDS + CLAIM_SECONDS
    assert again.worker == "other"
    end = node.await_status(item, Status.SUCCESS)
    assert what_counts(end) == what_counts(node.item(undisturbed))
    assert node.events(item) == node.events(undisturbed)


def test_a_worker_that_is_restarted_after_kill_9_goes_on_with_what_it_had(node: ScriptedNode) -> None:
    node.script.write("copy", {"hold": "never"}, {})
    item = node.make_item()
    doomed = node.start("a")
    node.await_run(item)
    doomed.kill()
    node.start("a")
    assert node.await_status(item, Status.SUCCESS).needs_attention is False


@pytest.mark.parametrize("deaf", [False, True], ids=["asks whether to stop", "asks nothing"])
def test_a_worker_that_was_paused_beyond_its_lease_changes_nothing(node: ScriptedNode, deaf: bool) -> None:
    late = {"save": "first", "hold": "late", "deaf": deaf, "then": {"answer": ["Fail", "late"]}}
    node.script.write("copy", late, {"save": "second", "hold": "other"})
    item = node.make_item()
    # It hardly writes of its own accord: one that is stopped while it writes would stop all others on SQLite.
    paused = node.start("paused", "copy", chore_seconds=NEVER_SECONDS, heartbeat_seconds=NEVER_SECONDS)
    eventually(lambda: node.script.journal("waiting", item=item))
    paused.signal(signal.SIGSTOP)
    node.start("other")
    eventually(lambda: node.item(item).note == "second")
    paused.signal(signal.SIGCONT)
    if deaf:
        eventually(lambda: paused.log("worker started"))
        node.script.open_gate("late")
    eventually(lambda: paused.log("lease lost: nothing was changed"))
    if not deaf:
        assert f"item {item}" in node.script.journal("stopped", item=item)[0].detail, "its work was not stopped"
    held = node.item(item)
    assert (held.status, held.note, held.lease_token) == (Status.RUNNING, "second", 2)
    assert held.lease_owner == f"host/other/{node.workers[1].pid}"
    assert node.events(item) == []
    node.script.open_gate("other")
    assert node.await_status(item, Status.SUCCESS).note == "store done"
    assert len(node.script.journal("start", item=item, stage="copy")) == 2
    assert paused.runs


def test_an_item_whose_every_run_kills_its_worker_waits_for_a_person_and_costs_no_owner_its_transfer(
    embedded_node: ScriptedNode,
) -> None:
    """Poison that ends the process leaves no outcome: such runs are counted when the next one begins."""
    node = embedded_node
    node.script.write("copy", {"die": True})
    item = node.make_item()
    for run in range(1, 4):
        worker = node.start(f"w{run}", "copy", attempts=3, lease_seconds=0.6)
        node.await_run(item, runs=run)
        assert worker.wait() == -signal.SIGKILL
    node.start("last", "copy", attempts=3, lease_seconds=0.6)
    eventually(lambda: node.item(item).needs_attention)
    waiting = node.item(item)
    assert len(node.script.journal("start", item=item)) == 3
    assert (waiting.status, waiting.attempts) == (Status.PENDING, 0)
    assert waiting.note.startswith("the worker died or was killed 3 times in a row")
    assert (waiting.run_after - waiting.updated_at).total_seconds() >= ASK_AGAIN_SECONDS - 1
    with node.sessions() as session:
        assert session.query(WorkItem).filter_by(task=Task.NOTICE).all() == []


def test_a_crash_between_commit_and_message_costs_no_more_than_the_next_publishing(nsq_node: ScriptedNode) -> None:
    node = nsq_node
    item = node.make_item()
    doomed = node.start("doomed", "copy", dies_publishing=True, chore_seconds=NEVER_SECONDS)
    assert doomed.wait() == -signal.SIGKILL
    assert (node.item(item).stage, node.item(item).status) == ("validate", Status.PENDING)
    assert node.intents() == [(node.topic("validate"), item)]
    node.start("validator", "validate", sweep_seconds=NEVER_SECONDS, chore_seconds=NEVER_SECONDS).await_started()
    node.start("copier", "copy")
    node.await_run(item, "validate")
    eventually(lambda: (node.topic("validate"), item) not in node.intents())
    assert len(node.script.journal("start", item=item, stage="copy")) == 1
