"""A cluster in whose middle things die: the bags arrive all the same, once, and no byte is sent twice."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dpn.database import reading
from dpn.registry.catalogue import TRANSFERS, find
from dpn.registry.records import ReplicationRecord
from tests.fixtures.offered_bags import deposit_all, take_all
from tools.demo.copies import read_back
from tools.demo.deposit import Request
from tools.demo.watch import BagProgress, Watch
from tools.network.cluster import Cluster
from tools.network.errors import Broken
from tools.network.node import RunningNode
from tools.services.ports import LOOPBACK, free_ports

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

    def position() -> BagProgress:
        return watch.look()[0]

    def is_at(stage: str, least_bytes: int = 0) -> bool:
        now = position()
        return (now.stage, now.status) == (stage, "running") and now.arrived_bytes >= least_bytes

    for stage, least_bytes in (("copy", COPIED_BEFORE_THE_KILL_BYTES), ("validate", 0)):
        assert cluster.wait_until(lambda at=(stage, least_bytes): is_at(*at), timeout_seconds=PATIENCE_SECONDS), (
            position()
        )
        cluster.nodes["south"].kill("worker", signal.SIGKILL)
    # On a busy machine the last stage may be over before anybody looks.
    cluster.wait_until(lambda: is_at("store") or position().is_final, timeout_seconds=PATIENCE_SECONDS)
    cluster.nodes["south"].kill("worker", signal.SIGKILL)
    assert cluster.wait_until(lambda: position().is_final, timeout_seconds=PATIENCE_SECONDS), position()
    assert position().succeeded, position()
    (copy,) = read_back(cluster.nodes, requests, cluster.backends)
    assert copy.verified
    assert not list(cluster.nodes["south"].place.volume.rglob("*.tar"))
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
    done = south.cron()
    assert done.returncode == 0, done.stdout
    listed = south.run("items", "--json")
    items = [json.loads(line) for line in listed.stdout.splitlines() if line.startswith('{"id"')]
    assert [item["identifier"] for item in items] == [request.replication_id for request in requests]


def test_a_bag_that_changed_since_it_was_offered_is_refused_and_its_owner_told_why(tmp_path: Path) -> None:
    with Cluster(tmp_path / "network", names=("north", "south")) as cluster:
        cluster.prepare()
        cluster.start(cron=False)
        deposits = take_all([], tmp_path / "built", node="north")
        requests = deposit_all(cluster.nodes["north"], deposits, ["south"], now=datetime.now(UTC))
        _change_one_byte(deposits[0].tar, of=b"A sample that the demo made")
        cluster.start_cron()
        watch = Watch(cluster.nodes, requests)
        assert cluster.wait_until(lambda: watch.look()[0].is_final, timeout_seconds=PATIENCE_SECONDS)
        assert not watch.look()[0].succeeded
        assert "data/README.txt" in watch.look()[0].note

        def at_its_owner() -> ReplicationRecord | None:
            with reading(cluster.nodes["north"].sessions) as session:
                return find(session, TRANSFERS, requests[0].replication_id)

        def owner_knows() -> bool:
            record = at_its_owner()
            return record is not None and record.cancelled

        assert cluster.wait_until(owner_knows, timeout_seconds=PATIENCE_SECONDS)
        record = at_its_owner()
        assert record is not None
        assert record.cancel_reason == "bag_invalid"
        assert "data/README.txt" in (record.cancel_reason_detail or "")
        (copy,) = read_back(cluster.nodes, requests, cluster.backends)
        assert not copy.verified
        assert copy.url is None


def test_a_process_that_cannot_run_breaks_the_network_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Cluster(tmp_path / "network", names=("north", "south")) as cluster:
        cluster.prepare()
        cluster.nodes["south"].start("dancer", "worker", "dance")
        with pytest.raises(Broken, match=r"(?s)south/dancer ended with exit code 2, 5 times in a row.*no worker"):
            cluster.wait_until(lambda: False, timeout_seconds=PATIENCE_SECONDS)


def test_a_port_that_somebody_took_is_given_up_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((LOOPBACK, 0)) as stranger:
        taken: int = stranger.getsockname()[1]
        first_choice = [taken, *free_ports(3)]

        def choose(count: int) -> list[int]:
            return [first_choice.pop(0) for _ in range(count)] if first_choice else free_ports(count)

        monkeypatch.setattr("tools.network.cluster.free_ports", choose)
        with Cluster(tmp_path / "network", names=("north", "south")) as cluster:
            cluster.prepare()
            assert cluster.nodes["north"].ports.registry == taken
            cluster.start(workers=False, cron=False)
            assert all(node.answers() for node in cluster.nodes.values())
            assert cluster.nodes["north"].ports.registry != taken
            assert cluster.nodes["south"].settings.peers["north"].api_root == cluster.nodes["north"].ports.api_root


def _change_one_byte(tar: Path, *, of: bytes) -> None:
    with tar.open("r+b") as file:
        file.seek(file.read().index(of))
        file.write(of[:1].swapcase())


def _sent_bytes(owner: RunningNode, size: int) -> list[int]:
    """What the owner's rsync daemon says to have sent for a file of this size, one number a connection."""
    log = (owner.place.logs / "rsyncd.log").read_text(encoding="utf-8")
    return [int(sent) for sent in re.findall(rf"sent (\d+) bytes .* total size {size}$", log, re.MULTILINE)]
