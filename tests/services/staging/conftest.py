"""Staging over a real database, on a volume whose free space a test can set."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpn.clock import ManualClock
from dpn.database import Sessions, open_engine, open_sessions
from dpn.staging.settings import StagingSettings
from dpn.staging.staging import Staging
from dpn.staging.volumes import Volume
from models.work import Status, WorkItem
from tests.fixtures.databases import migrate

MEBIBYTE = 1024**2


@dataclass
class Disk:
    """What the kernel says is free on every volume: what it has, less what lies there."""

    capacity_bytes: int

    def free_bytes(self, volume: Volume) -> int:
        used = sum(path.lstat().st_size for path in volume.path.rglob("*.tar"))
        return self.capacity_bytes - used


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine = open_engine(database_url, pool_size=20)
    migrate(engine)
    yield open_sessions(engine)
    engine.dispose()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Of 100 MiB, until a test says otherwise."""
    disk = Disk(100 * MEBIBYTE)
    monkeypatch.setattr(Volume, "free_bytes", lambda volume: disk.free_bytes(volume))
    return disk


@pytest.fixture
def staging(sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk) -> Staging:
    """One volume, main, of which 10 MiB stay free."""
    return mounted(sessions, clock, {"main": tmp_path / "main"})


@pytest.fixture
def new_item(sessions: Sessions, clock: ManualClock) -> Callable[..., int]:
    """Makes a work item and returns its id."""
    numbers = itertools.count(1)

    def make(**values: object) -> int:
        with sessions.begin() as session:
            row = {
                "task": "replication",
                "identifier": f"transfer-{next(numbers)}",
                "stage": "copy",
                "status": Status.RUNNING,
                "run_after": clock.now(),
                "manifest": {},
                "created_at": clock.now(),
                "updated_at": clock.now(),
                **values,
            }
            item = WorkItem(**row)
            session.add(item)
            session.flush()
            return item.id

    return make


def mounted(
    sessions: Sessions, clock: ManualClock, volumes: dict[str, Path], floor_bytes: int = 10 * MEBIBYTE
) -> Staging:
    for path in volumes.values():
        path.mkdir(exist_ok=True)
    staging = Staging(sessions, StagingSettings(volumes=volumes, floor_bytes=floor_bytes), clock=clock)
    staging.mount()
    return staging
