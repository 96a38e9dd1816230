"""Staging volumes of several hosts: work goes where the bytes lie, and what a lost host held is staged anew
(docs/architecture.md, promise 11)."""

from __future__ import annotations

from datetime import datetime

from models.work import DiskReservation, StagingVolume, Status
from tests.fixtures.scripted.node import NEVER_SECONDS, Nsqd, ScriptedNode, eventually

STAGES = ("copy", "validate", "store")


def test_two_hosts_share_the_work_and_each_item_stays_where_it_was_staged(node: ScriptedNode) -> None:
    node.script.write("copy", {"hold": "go", "then": {"volume": "own"}})
    for name in "ab":
        node.start(name, volumes=[name], concurrency=2)
    items = [node.make_item(number) for number in range(4)]
    eventually(lambda: len(node.script.journal("start", stage="copy")) == len(items))
    node.script.open_gate("go")
    for item in items:
        assert node.await_status(item, Status.SUCCESS).staging_volume is None
    hosts = {item: {entry.worker for entry in node.script.journal("start", item=item)} for item in items}
    assert sorted(map(sorted, hosts.values())) == [["a"], ["a"], ["b"], ["b"]]


def test_an_item_on_a_volume_is_announced_to_those_who_mount_it_and_run_by_nobody_else(
    nsq_node: ScriptedNode, nsqd: Nsqd
) -> None:
    node = nsq_node
    node.script.write("copy", {"volume": "own"})
    here, elsewhere = node.make_item(1), node.make_item(2, stage="validate", staging_volume="b")
    node.start("copier", "copy", volumes=["a"], sweep_seconds=NEVER_SECONDS)
    node.start("foreign", "validate", volumes=["b"])
    eventually(lambda: node.item(here).stage == "validate")
    node.await_run(elsewhere, "validate")
    node.announce(here, stage="validate")  # on the topic of all: heard by one who cannot run it, and of no effect
    eventually(lambda: nsqd.topic(node.topic("validate", "a")).get("message_count"))
    assert node.script.journal("start", item=here, stage="validate") == []
    node.start("mounts it", "validate", volumes=["a"], sweep_seconds=NEVER_SECONDS)
    node.await_run(here, "validate")
    assert node.script.journal("start", item=here, stage="validate")[0].worker == "mounts it"


def test_what_a_lost_host_had_staged_is_staged_anew_by_another(node: ScriptedNode) -> None:
    node.script.write("copy", {"volume": "own"})
    lost = node.start("lost", "copy", volumes=["a"])
    item = node.make_item()
    eventually(lambda: node.item(item).stage == "validate")
    with node.sessions.begin() as session:
        session.add(DiskReservation(item_id=item, volume="a", bytes=1, created_at=node.later(0)))
    other = node.start("other", *STAGES, volumes=["b"], abandon_after_seconds=3.0).await_started()
    asked = node.later(0)
    eventually(lambda: seen_at(node, "a") > asked)
    assert len(node.script.journal("start", item=item)) == 1, "its host lives: nothing is abandoned"
    lost.kill()
    node.await_status(item, Status.SUCCESS)
    assert [(entry.stage, entry.worker) for entry in node.script.journal("start", item=item)] == [
        ("copy", "lost"), ("copy", "other"), ("validate", "other"), ("store", "other")
    ]  # fmt: skip
    assert ("staged copy lost", "started over") in node.events(item)
    with node.sessions() as session:
        assert session.get(DiskReservation, item) is None
    assert other.runs


def seen_at(node: ScriptedNode, volume: str) -> datetime:
    """When a worker that mounts the volume last said so."""
    with node.sessions() as session:
        return session.get_one(StagingVolume, volume).seen_at
