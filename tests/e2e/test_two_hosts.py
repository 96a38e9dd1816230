"""One node on two hosts: same database, nsqd and store, each a staging volume of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from models.work import AuditEvent, Task, WorkItem
from tests.fixtures.offered_bags import deposit_all, take_all
from tools.demo.copies import read_back
from tools.demo.deposit import Request
from tools.network.backends import BrokerKind, DatabaseKind, Kinds
from tools.network.cluster import Cluster
from tools.network.node import RunningNode

pytestmark = pytest.mark.slow

BAGS = 8
PATIENCE_SECONDS = 90.0
ABANDON_SECONDS = 4.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    kinds = Kinds(BrokerKind.NSQ, DatabaseKind.POSTGRESQL)
    settings = {
        "work": {"lease_seconds": 3, "heartbeat_seconds": 1.0},
        "staging": {"abandon_after_seconds": ABANDON_SECONDS},
    }
    with Cluster(tmp_path / "network", names=("north", "south"), kinds=kinds, settings=settings) as cluster:
        cluster.prepare()
        cluster.start(workers=False, cron=False)
        yield cluster


@pytest.fixture
def requests(cluster: Cluster, tmp_path: Path) -> list[Request]:
    sources = []
    for number in range(BAGS):
        folder = tmp_path / f"deposit-{number}"
        folder.mkdir()
        (folder / "data.raw").write_bytes(os.urandom(200_000))
        sources.append(str(folder))
    deposits = take_all(sources, tmp_path / "built", node="north")
    return deposit_all(cluster.nodes["north"], deposits, ["south"], now=datetime.now(UTC))


def second_host(node: RunningNode) -> Path:
    """Settings of another machine of the node: all the same but for the staging volume."""
    volume = node.place.directory / "second-volume"
    volume.mkdir()
    text = node.place.settings_file.read_text(encoding="utf-8")
    own = f'main = "{node.place.volume}"'
    assert own in text
    settings = node.place.directory / "second-host.toml"
    settings.write_text(text.replace(own, f'second = "{volume}"'), encoding="utf-8")
    return settings


def stage_runs(node: RunningNode, requests: list[Request]) -> dict[str, dict[str, str]]:
    """For each item, by which worker each of its stages was done."""
    wanted = {request.replication_id for request in requests}
    with node.sessions() as session:
        rows = session.execute(
            select(AuditEvent.object_id, AuditEvent.detail, AuditEvent.agent)
            .where(AuditEvent.event_type == "stage ended", AuditEvent.outcome == "done")
            .order_by(AuditEvent.id)
        ).all()
    runs: dict[str, dict[str, str]] = {}
    for identifier, detail, agent in rows:
        if identifier in wanted:
            runs.setdefault(identifier, {})[detail["stage"]] = agent
    return runs


def all_succeeded(node: RunningNode) -> bool:
    with node.sessions() as session:
        statuses = session.scalars(select(WorkItem.status).where(WorkItem.task == Task.REPLICATION)).all()
    return len(statuses) == BAGS and set(statuses) == {"success"}


def test_two_hosts_share_the_work_and_each_bag_is_validated_and_stored_where_it_was_copied(
    cluster: Cluster, requests: list[Request]
) -> None:
    south = cluster.nodes["south"]
    south.start("worker")
    south.start("second", "worker", "all", "--config", str(second_host(south)))
    assert cluster.wait_until(lambda: _live_workers(south) == 2, timeout_seconds=PATIENCE_SECONDS)
    south.cron()
    assert cluster.wait_until(lambda: all_succeeded(south), timeout_seconds=PATIENCE_SECONDS)
    runs = stage_runs(south, requests)
    assert len(runs) == BAGS
    for by_stage in runs.values():
        assert by_stage["copy"] == by_stage["validate"] == by_stage["store"]
    assert len({by_stage["copy"] for by_stage in runs.values()}) == 2, "both hosts took part"
    assert all(copy.verified for copy in read_back(cluster.nodes, requests, cluster.backends))


def test_what_a_host_had_staged_that_is_gone_for_good_is_copied_anew_by_the_other(
    cluster: Cluster, requests: list[Request]
) -> None:
    south = cluster.nodes["south"]
    settings = second_host(south)
    south.start("doomed", "worker", "copy", "--config", str(settings))
    south.cron()

    def all_copied() -> bool:
        with south.sessions() as session:
            stages = session.execute(
                select(WorkItem.stage, WorkItem.staging_volume).where(WorkItem.task == Task.REPLICATION)
            ).all()
        return len(stages) == BAGS and set(stages) == {("validate", "second")}

    assert cluster.wait_until(all_copied, timeout_seconds=PATIENCE_SECONDS)
    south.kill("doomed", signal.SIGKILL)
    south.stop("doomed")
    (south.place.directory / "second-volume").rename(south.place.directory / "gone")
    south.start("worker")
    assert cluster.wait_until(lambda: all_succeeded(south), timeout_seconds=PATIENCE_SECONDS)
    with south.sessions() as session:
        lost = session.scalars(
            select(AuditEvent.object_id).where(AuditEvent.event_type == "staged copy lost")
        ).all()
    assert sorted(lost) == sorted(request.replication_id for request in requests)
    assert all(copy.verified for copy in read_back(cluster.nodes, requests, cluster.backends))


def _live_workers(node: RunningNode) -> int:
    from models.work import WorkerHeartbeat

    with node.sessions() as session:
        return len(session.scalars(select(WorkerHeartbeat.worker_id)).all())
