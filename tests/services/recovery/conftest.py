"""North with its registry server, and south with its rsync daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpn.clock import SystemClock
from tests.conftest import Services
from tests.fixtures.registry import running_registry
from tests.services.recovery.asking import Asking, write_config


@pytest.fixture
def asking(services: Services, sqlite_url: str, tmp_path: Path) -> Iterator[Asking]:
    yield from _asking(services, sqlite_url, tmp_path)


@pytest.fixture
def asking_on_postgresql(services: Services, migrated_url: str, tmp_path: Path) -> Iterator[Asking]:
    yield from _asking(services, migrated_url, tmp_path)


def _asking(services: Services, url: str, folder: Path) -> Iterator[Asking]:
    entry = services.up("rsyncd")
    prefix = f"rsync://{entry['host']}:{entry['port']}/outbound/"
    with running_registry(
        "north", database_url=url, folder=folder, peers=("south", "west"), clock=SystemClock()
    ) as registry:
        config = write_config(folder / "node.toml", registry, entry, url)
        yield Asking(registry, config, folder, Path(entry["modules"]["outbound"]), prefix)
