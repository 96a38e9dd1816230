"""Messages that bring no work: counted, kept where they mean nothing, finished, and never the end of a worker
(reliability 16, 17)."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from sqlalchemy import select

from models.work import DeadLetter, Status
from tests.fixtures.scripted.node import NEVER_SECONDS, Nsqd, ScriptedNode, WorkerProcess, eventually

GARBAGE = [
    b"",
    b"abc",
    b"-1",
    b"1.5",
    b" 1",
    b"\0\xff\r\n\x1b[2J",
    b'{"id": 1}',
    b"9" * 19,
    b"9" * 4000,
    "١".encode(),
]
UNKNOWN = b"123456789"


@pytest.fixture
def worker(nsq_node: ScriptedNode) -> WorkerProcess:
    return nsq_node.start("a", "validate", sweep_seconds=NEVER_SECONDS, log={"metrics_port": 0}).await_started()


def metrics(worker: WorkerProcess) -> dict[str, float]:
    """What the worker serves to Prometheus, by name with labels."""
    port = worker.log("metrics")[0]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def counted(worker: WorkerProcess, answer: str) -> float:
    """How many messages got this answer, whatever their topic."""
    found = metrics(worker).items()
    return sum(n for name, n in found if name.startswith("dpn_messages_total") and f'answer="{answer}"' in name)


def finished(nsqd: Nsqd, node: ScriptedNode, count: int) -> bool:
    """Whether nsqd has nothing left of `count` messages, and none had to be sent twice."""
    channel = nsqd.channel(node.topic("validate"), node.topic("validate").replace("_topic", "_channel"))
    left: Any = (channel["depth"], channel["in_flight_count"], channel["deferred_count"], channel["requeue_count"])
    return bool(channel["message_count"] == count and left == (0, 0, 0, 0))


def test_garbage_and_unknown_ids_are_kept_as_dead_letters_and_finished(
    nsq_node: ScriptedNode, nsqd: Nsqd, worker: WorkerProcess
) -> None:
    sent = [body for body in GARBAGE if body] + [UNKNOWN]  # nsqd itself refuses an empty message
    for body in sent:
        nsqd.post("pub", body, topic=nsq_node.topic("validate"))
    eventually(lambda: finished(nsqd, nsq_node, len(sent)))
    with nsq_node.sessions() as session:
        letters = session.scalars(select(DeadLetter).order_by(DeadLetter.id)).all()
    assert len(letters) == len(sent)
    assert {letter.topic for letter in letters} == {nsq_node.topic("validate")}
    assert any("no item 123456789" in letter.reason for letter in letters)
    assert any(letter.body == "\\0\\xff\r\n\x1b[2J" for letter in letters)
    assert max(len(letter.body) for letter in letters) == 1024
    assert counted(worker, "dead letter") == len(sent)
    assert worker.log()
    assert worker.runs


def test_messages_for_finished_foreign_waiting_and_running_items_are_finished_and_change_nothing(
    nsq_node: ScriptedNode, nsqd: Nsqd, worker: WorkerProcess
) -> None:
    node = nsq_node
    items = [
        node.make_item(1, stage="store", status=Status.SUCCESS),
        node.make_item(2, stage="validate", status=Status.CANCELLED),
        node.make_item(3, stage="copy"),  # at another stage than the message's topic says
        node.make_item(4, stage="validate", staging_volume="elsewhere"),
        node.make_item(5, stage="validate", run_after=node.later(60)),
        node.make_item(6, stage="validate", status=Status.RUNNING, lease_token=7, lease_expires_at=node.later(60)),
    ]
    before = [(row.status, row.stage, row.attempts, row.lease_token) for row in map(node.item, items)]
    for item in items:
        node.announce(item, stage="validate")
    eventually(lambda: finished(nsqd, node, len(items)))
    assert [(row.status, row.stage, row.attempts, row.lease_token) for row in map(node.item, items)] == before
    assert counted(worker, "nothing to do") == len(items)
    assert node.script.journal() == []


def test_the_stage_comes_from_the_database_whatever_the_topic_says(nsq_node: ScriptedNode) -> None:
    nsq_node.start("all", "copy", "validate", sweep_seconds=NEVER_SECONDS).await_started()
    item = nsq_node.make_item()
    nsq_node.announce(item, stage="validate")
    nsq_node.await_run(item, "validate")
    assert [entry.stage for entry in nsq_node.script.journal("start")] == ["copy", "validate"]


def test_metrics_tell_of_runs_messages_and_sweeps(nsq_node: ScriptedNode, worker: WorkerProcess) -> None:
    item = nsq_node.make_item(1, stage="validate")
    nsq_node.announce(item, stage="validate")
    eventually(lambda: nsq_node.item(item).stage == "store")
    ended = 'dpn_stages_ended_total{outcome="done",stage="validate",task="replication"}'
    assert eventually(lambda: metrics(worker).get(ended)) == 1
    told = metrics(worker)
    assert told['dpn_stage_seconds_count{stage="validate",task="replication"}'] == 1
    assert told["dpn_leases_lost_total"] == 0
    assert told["dpn_last_sweep_timestamp_seconds"] > 0
    assert counted(worker, "claimed") == 1
    eventually(lambda: metrics(worker)["dpn_stages_running"] == 0)
