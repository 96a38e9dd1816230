"""A holder of a bag and a node that asks for it, on either database or on SQLite alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.workers.restore.handing_back import Holder, holder_and_requester


@pytest.fixture
def north(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Holder]:
    """Where the database makes no difference."""
    with holder_and_requester(tmp_path) as holder:
        yield holder


@pytest.fixture(params=["sqlite", "postgresql"])
def either_north(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Holder]:
    """Where it may."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "migrated_url"}[request.param]
    with holder_and_requester(tmp_path / "nodes", database_url=request.getfixturevalue(fixture)) as holder:
        yield holder
