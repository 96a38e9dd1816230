"""North and south, and bags that travel between them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from dpn.bags.building.build import build_bag
from dpn.bags.building.metadata import DpnMetadata
from dpn.clock import ManualClock
from tests.conftest import Services
from tests.services.workers.replication.consortium import North, South, make_north, make_south


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def north(services: Services, tmp_path: Path) -> Iterator[North]:
    node = make_north(tmp_path / "north", services.up("rsyncd"))
    yield node
    node.server.stop()


@pytest.fixture
def south(north: North, clock: ManualClock, tmp_path: Path) -> South:
    return make_south(tmp_path / "south", north, clock)


@pytest.fixture
def make_bag(tmp_path: Path) -> Callable[..., Path]:
    """Builds a valid DPN bag with a payload of `size` bytes."""

    def make(size: int = 50_000) -> Path:
        source = tmp_path / f"source-{uuid.uuid4()}"
        source.mkdir()
        (source / "a.bin").write_bytes(bytes(range(256)) * (size // 256 + 1))
        (source / "empty.txt").touch()
        metadata = DpnMetadata(local_id=f"local-{source.name}", ingest_node="north", bagging_date=date(2024, 1, 2))
        return build_bag(source, tmp_path, metadata=metadata).path

    return make


@pytest.fixture
def bag(make_bag: Callable[..., Path]) -> Path:
    return make_bag()
