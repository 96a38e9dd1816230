"""A whole node asks another whole node for a bag, and a drill proves that it could: every process real."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dpn.database import reading
from dpn.recovery.drills import drilled
from dpn.recovery.requests import request_of, state
from tests.fixtures.offered_bags import deposit_all, take_all
from tools.demo.watch import Watch
from tools.network.cluster import Cluster
from tools.network.node import RunningNode

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "network", names=("north", "south")) as cluster:
        cluster.prepare()
        cluster.start()
        yield cluster


def said(node: RunningNode, *words: str, code: int = 0) -> dict[str, Any]:
    done = node.run(*words, "--json")
    assert done.returncode == code, done.stdout
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def standing(node: RunningNode, restore_id: str) -> str:
    with reading(node.sessions) as session:
        found = request_of(session, restore_id)
    assert found is not None
    return state(found)


def results(node: RunningNode) -> list[str]:
    with reading(node.sessions) as session:
        return [one.result for one in drilled(session, now=datetime.now(UTC))]


def test_a_bag_comes_back_from_the_node_that_keeps_it_and_drills_prove_that_it_can(
    cluster: Cluster, tmp_path: Path
) -> None:
    north, south = cluster.nodes["north"], cluster.nodes["south"]
    (tmp_path / "deposit").mkdir()
    (tmp_path / "deposit" / "a.raw").write_bytes(os.urandom(3_000_000))
    (bag,) = take_all([str(tmp_path / "deposit")], tmp_path / "built", node="north")
    requests = deposit_all(north, [bag], ["south"], now=datetime.now(UTC))
    watch = Watch(cluster.nodes, requests)
    assert cluster.wait_until(lambda: watch.look()[0].succeeded, timeout_seconds=PATIENCE_SECONDS)
    offered = north.place.outbound / "south" / f"{bag.uuid}.tar"
    offered.unlink()

    asked = said(north, "restore", "request", bag.uuid)
    assert asked["from_node"] == "south"
    assert cluster.wait_until(
        lambda: standing(north, asked["restore_id"]) == "staged",
        timeout_seconds=PATIENCE_SECONDS,
    )
    out = tmp_path / "back"
    out.mkdir()
    assert said(north, "restore", "fetch", bag.uuid, "--out", str(out))["finished"]
    assert (out / f"{bag.uuid}.tar").read_bytes() == bag.tar.read_bytes()

    handed_back = south.place.outbound / "north" / f"{bag.uuid}.tar"
    assert cluster.wait_until(lambda: not handed_back.exists(), timeout_seconds=PATIENCE_SECONDS), "cleared away"
    assert said(north, "drill", "--sample", "1", "--from", "south")["drill"]["begun"][0]["bags"] == [bag.uuid]
    assert said(south, "drill", "--sample", "1", "--from", "store")["drill"]["begun"][0]["bags"] == [bag.uuid]
    for node in (north, south):
        assert cluster.wait_until(lambda node=node: results(node) == ["good"], timeout_seconds=PATIENCE_SECONDS), (
            said(node, "drill", "--report", code=1)
        )
        assert [one["good"] for one in said(node, "drill", "--report")["report"]] == [1]
        assert not list(node.place.volume.rglob("*.tar")), "scratch space is left empty"
