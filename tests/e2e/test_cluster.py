"""A cluster in whose middle things die: the bags arrive all the same, once, and no byte is sent twice."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dpn.cli.demo.cluster import Cluster
from dpn.cli.demo.copies import read_back
from dpn.cli.demo.deposit import Request, deposit_all
from dpn.cli.demo.node import Node
from dpn.cli.demo.sources import take_all
from dpn.cli.demo.watch import Position, Watch

pytestmark = pytest.mark.slow

LEASE_SECONDS = 3
PATIENCE_SECONDS = 60.0

COPIED_BEFORE_THE_KILL_BYTES = 30_000_000
BLOCK_SLACK_BYTES = 1_000_000
"""What rsync itself adds: block sums, and the block that the kill cut in two."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    settings = {"work": {"lease_seconds": LEASE_SECONDS}, "transfer": {"bandwidth_limit_kib": 40_000}}
    with Cluster(tmp_path / "network", names=("north", "south"), settings=settings) as cluster:
        cluster.prepare()
        cluster.start()
        yield cluster


@pytest.fixture
def requests(cluster: Cluster, tmp_path: Path) -> list[Request]:
    """A deposit that is large enough to be met in every stage."""
    folder = tmp_path / "deposit"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.raw").write_bytes(os.urandom(40_000_000))
    deposits = take_all([str(folder)], tmp_path / "built", node="north")
    return deposit_all(cluster.nodes["north"], deposits, ["south"], now=datetime.now(UTC))


def test_a_worker_that_is_killed_in_each_stage_loses_nothing_and_sends_nothing_twice(
    cluster: Cluster, requests: list[Request]
) -> None:
    watch = Watch(cluster.nodes, requests)

    def position() -> Position:
        return watch.look()[0]

    def is_at(stage: str, least_bytes: int = 0) -> bool:
        now = position()
        return (now.stage, now.status) == (stage, "running") and now.arrived_bytes >= least_bytes

    for stage, least_bytes in (("copy", COPIED_BEFORE_THE_KILL_BYTES), ("validate", 0), ("store", 0)):
        assert cluster.wait_until(lambda at=(stage, least_bytes): is_at(*at), timeout_seconds=PATIENCE_SECONDS), (
            position()
        )
        cluster.nodes["south"].kill("worker", signal.SIGKILL)
    assert cluster.wait_until(lambda: position().is_final, timeout_seconds=PATIENCE_SECONDS), position()
    assert position().succeeded, position()
    (copy,) = read_back(cluster.nodes, requests, cluster.backends)
    assert copy.verified
    size = requests[0].deposit.size
    assert _sent_bytes(cluster.nodes["north"], size)[-1] <= size - COPIED_BEFORE_THE_KILL_BYTES + BLOCK_SLACK_BYTES


def test_a_node_that_is_down_for_a_while_is_waited_for(cluster: Cluster, requests: list[Request]) -> None:
    watch = Watch(cluster.nodes, requests)
    assert cluster.wait_until(lambda: watch.look()[0].item_id is not None, timeout_seconds=PATIENCE_SECONDS)
    cluster.nodes["north"].stop("serve", "rsyncd")
    cluster.wait_until(lambda: False, timeout_seconds=3)
    assert not watch.look()[0].is_final
    cluster.nodes["north"].start("serve")
    cluster.nodes["north"].start("rsyncd")
    assert cluster.wait_until(lambda: watch.look()[0].is_final, timeout_seconds=PATIENCE_SECONDS)
    assert watch.look()[0].succeeded


def test_an_operators_commands_work_at_a_running_node(cluster: Cluster, requests: list[Request]) -> None:
    south = cluster.nodes["south"]
    assert south.sync().returncode == 0
    assert south.queue().returncode == 0
    listed = south.run("items", "--json")
    items = [json.loads(line) for line in listed.stdout.splitlines() if line.startswith('{"id"')]
    assert [item["identifier"] for item in items] == [request.replication_id for request in requests]


def _sent_bytes(owner: Node, size: int) -> list[int]:
    """What the owner's rsync daemon says to have sent for a file of this size, one number a connection."""
    log = (owner.place.logs / "rsyncd.log").read_text(encoding="utf-8")
    return [int(sent) for sent in re.findall(rf"sent (\d+) bytes .* total size {size}$", log, re.MULTILINE)]
