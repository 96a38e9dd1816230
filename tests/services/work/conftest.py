"""A migrated database, on SQLite and PostgreSQL, and a clock that only moves when told to."""

from __future__ import annotations

import pytest

from dpn.clock import ManualClock
from dpn.database import Sessions
from tests.fixtures.scripted.bench import Bench


@pytest.fixture
def clock(bench: Bench) -> ManualClock:
    return bench.clock


@pytest.fixture
def sessions(bench: Bench) -> Sessions:
    return bench.sessions


@pytest.fixture
def item(bench: Bench) -> int:
    """A replication at its first stage, due now."""
    return bench.make_item()
