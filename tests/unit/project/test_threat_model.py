"""docs/threat-model.md is true: every line names tests that are there, or says that nothing stops it yet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(?P<file>tests/[^`:]+)::(?P<test>[^`]+)`")
NOTHING = "**Nothing yet"


def lines() -> list[str]:
    """The rows of all tables whose last column names tests."""
    found: list[str] = []
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        rows = block.splitlines()
        if rows[0].endswith("| test |"):
            found += rows[2:]
    assert found
    return found


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.split("|")[1].strip())
def test_a_line_names_tests_that_are_there_or_says_that_nothing_stops_it_yet(line: str) -> None:
    named = list(NAMED.finditer(line))
    assert bool(named) is not (NOTHING in line), "either a test, or nothing yet"
    for found in named:
        path = ROOT / found["file"]
        assert path.is_file(), found["file"]
        assert re.search(rf"^\s*(?:async )?def {found['test']}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
