"""docs/adding-a-pipeline.md is the real thing: built as it says, its pipeline runs, and nothing else is needed.

What stands in its blocks is put into a copy of the project. There the example's own test runs its items through
the real StageRunner, and the project's checks hold that the house is still in order.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "adding-a-pipeline.md"
BLOCK = re.compile(r"^```(?P<language>python|diff)\n# (?P<path>\S+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"^(?P<how>new|changed) +(?P<path>\S+) ", re.MULTILINE)

COPIED = ("bin", "config", "docs", "dpn", "models", "tests", "tools", "workers", "pyproject.toml")
CHECKS = ("imports", "names", "architecture", "example_config", "deployment_files")
"""The project's checks that a new pipeline could fail, but for those of types and of pages."""

LEFT_OUT = "not systemd and not web_framework"
"""Of these, what takes long and looks at nothing that a pipeline brings."""

END_CHARACTERS = 8000
"""How much of a failed run is shown: its end says what failed."""


@dataclass(frozen=True)
class Block:
    """One block of the page: a new file, or a change to one."""

    language: str
    path: str
    text: str

    def put(self, house: Path) -> None:
        target = house / self.path
        if self.language == "python":
            assert not target.exists(), f"{self.path} is not new"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.text, encoding="utf-8")
        else:
            target.write_text(self.changed(target.read_text(encoding="utf-8")), encoding="utf-8")

    def changed(self, content: str) -> str:
        """Content with the change made. A line that only says where may be the beginning of one."""
        lines, marked = content.splitlines(), [(line[:1] or " ", line[1:]) for line in self.text.splitlines()]
        old = [(mark, line) for mark, line in marked if mark != "+"]

        def fits(start: int) -> bool:
            there = lines[start : start + len(old)]
            return len(there) == len(old) and all(
                found == line if mark == "-" else found.startswith(line)
                for found, (mark, line) in zip(there, old, strict=True)
            )

        starts = [start for start in range(len(lines)) if fits(start)]
        assert len(starts) == 1, f"{self.path} has {len(starts)} places for this change:\n{self.text}"
        there = iter(lines[starts[0] : starts[0] + len(old)])
        new: list[str] = []
        for mark, line in marked:
            found = line if mark == "+" else next(there)
            new += [] if mark == "-" else [found]
        return "\n".join([*lines[: starts[0]], *new, *lines[starts[0] + len(old) :]]) + "\n"


BLOCKS = [Block(**found.groupdict()) for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the example in it."""
    house = tmp_path_factory.mktemp("house")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, house / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, house)
    for block in BLOCKS:
        block.put(house)
    return house


def run(house: Path, *module: str, status: int = 0) -> str:
    """What a module says that runs there, where the packages are those of the copy, and ends with that status."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *module],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, (done.stdout + done.stderr)[-END_CHARACTERS:]
    return done.stdout + done.stderr


def test_the_page_lists_every_file_that_it_touches_and_no_other() -> None:
    listed = [(found["path"], found["how"]) for found in LISTED.finditer(PAGE.read_text(encoding="utf-8"))]
    touched = {block.path: "new" if block.language == "python" else "changed" for block in BLOCKS}
    assert sorted(listed) == sorted(touched.items())


def test_its_pipeline_does_what_its_test_promises_and_the_house_is_still_in_order(house: Path) -> None:
    example = next(block for block in BLOCKS if block.path.startswith("tests/services/"))
    checks = [f"tests/unit/project/test_{check}.py" for check in CHECKS]
    told = run(
        house,
        "pytest",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-v",
        "-k",
        LEFT_OUT,
        example.path,
        *checks,
    )
    passed = set(re.findall(r"::(test_\w+)(?:\[.*\])? PASSED", told))
    promises = {
        statement.name for statement in ast.parse(example.text).body if isinstance(statement, ast.FunctionDef)
    }
    assert len({name for name in promises if name.startswith("test_")} & passed) > 5
    assert "test_the_pipelines_are_those_that_run_with_their_stages_and_workers_in_order" in passed


def test_it_is_written_as_the_project_is(house: Path) -> None:
    modules = {block.path for block in BLOCKS if block.path.endswith(".py")}
    run(house, "ruff", "check", "-q", "--no-cache", *modules)
    run(house, "ruff", "format", "-q", "--no-cache", "--diff", *modules)


def test_operators_see_it_as_any_other(house: Path) -> None:
    assert "checksum-reply" in run(house, "dpn.cli.main", "items", "--task", "nowhere", status=2)
    assert "checksum" in run(house, "dpn.cli.main", "worker", "--help")
