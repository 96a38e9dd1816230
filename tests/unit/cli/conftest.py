"""A node of the command line's: its settings in a file, its database migrated and empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpn.database import Sessions, open_engine, open_sessions
from tests.fixtures.databases import migrate


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    engine = open_engine(f"sqlite:///{tmp_path / 'node.db'}")
    migrate(engine)
    yield open_sessions(engine)
    engine.dispose()


@pytest.fixture
def config(sessions: Sessions, tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(
        f"""
        [node]
        namespace = "south"
        api_root = "https://dpn.south.example.org"
        [database]
        url = "sqlite:///{tmp_path / "node.db"}"
        [staging.volumes]
        main = "{tmp_path}"
        [store]
        url = "file://{tmp_path}"
        [fixity]
        max_bytes_per_day = 1000
        """
    )
    return file
