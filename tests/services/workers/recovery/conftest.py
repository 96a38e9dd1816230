"""North with a copy in a folder, and two nodes that keep the same bag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.services.workers.recovery.repair_bench import RepairBench, repair_bench


@pytest.fixture
def north(tmp_path: Path, sqlite_url: str, services: Services) -> Iterator[RepairBench]:
    with repair_bench(tmp_path, services.up("rsyncd"), database_url=sqlite_url) as north:
        yield north
