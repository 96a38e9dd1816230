"""One word, one thing: no two public classes of the house share a name, so that a name says which is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOUSE = ("models", "dpn", "workers", "tools")


def public_classes() -> dict[str, list[str]]:
    """Where each name is given to a class at the top of a module, by files."""
    found = defaultdict(list)
    for path in sorted(path for folder in HOUSE for path in (ROOT / folder).rglob("*.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                found[statement.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_two_public_classes_have_one_name() -> None:
    assert {name: paths for name, paths in public_classes().items() if len(paths) > 1} == {}
