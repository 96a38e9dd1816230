"""Demos, and what they deposit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.demos import Demos


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Demos]:
    demos = Demos(tmp_path)
    yield demos
    for demo in demos.started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.wait()


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a deposit"
    folder.mkdir()
    (folder / "Übersicht.txt").write_text("content", encoding="utf-8")
    return folder


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    """Large enough that every stage can be met while it runs."""
    folder = tmp_path / "a large deposit"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.raw").write_bytes(os.urandom(40_000_000))
    return folder


@pytest.fixture
def real_bags(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "dpn-bags").glob("*.tar"))
