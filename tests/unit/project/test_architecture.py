"""docs/architecture.md is true: what it names is there, and what is there it names."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from dpn import errors
from dpn.database import open_engine, open_sessions, upgrade
from dpn.work.outcomes import Outcome
from models.work import Status
from tests.fixtures.scripted.bench import Bench
from tests.unit.project.test_imports import CAPABILITIES, FOR_ALL, FOR_THOSE_WHO_START
from workers.pipelines import PIPELINES
from workers.stage import Job

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
SPAN = re.compile(r"`([^`\n]+)`")
REMEDY = "docs/architecture.md is the one picture of the house: change it in the commit that changes the house"

CODE = ("dpn", "workers", "models", "tools")
"""Of these, every folder with modules is named, however deep."""

SINGLE_MODULES = ("dpn", "workers", "models")
"""Of these, every module that lies in no folder is named, too."""


def table(first: str, last: str) -> list[list[str]]:
    """The rows, as cells, of all tables whose first and last headings are these."""
    found: list[list[str]] = []
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        rows = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in block.splitlines()]
        if (rows[0][0], rows[0][-1]) == (first, last):
            found += rows[2:]
    assert found, f"there is no table {first} … {last}"
    return found


def code(cell: str) -> list[str]:
    return SPAN.findall(cell)


def named_paths() -> set[str]:
    """Every path of ours that the page names."""
    return {span for span in SPAN.findall(TEXT) if (ROOT / span.split("/")[0]).is_dir() and "/" in span}


def test_what_it_names_is_there() -> None:
    missing = [
        path
        for path in named_paths()
        if not (ROOT / path).exists() or path.endswith("/") is not (ROOT / path).is_dir()
    ]
    assert missing == [], REMEDY


def test_every_folder_of_the_checkout_is_named() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    folders = {f"{path.split('/')[0]}/" for path in tracked.splitlines() if "/" in path}
    assert {folder for folder in folders if not folder.startswith(".")} <= named_paths(), REMEDY


def test_every_folder_of_code_is_named() -> None:
    folders = {
        f"{path.parent.relative_to(ROOT)}/"
        for top in CODE
        for path in (ROOT / top).rglob("*.py")
        if path.parent.name != "versions"  # the migrations themselves
    }
    tests = {f"tests/{path.name}/" for path in (ROOT / "tests").iterdir() if list(path.rglob("*.py"))}
    assert folders | tests <= named_paths(), REMEDY


def test_every_single_module_is_named() -> None:
    modules = {
        str(path.relative_to(ROOT))
        for top in SINGLE_MODULES
        for path in (ROOT / top).glob("*.py")
        if path.name != "__init__.py"
    }
    assert modules <= named_paths(), REMEDY


def test_the_pipelines_are_those_that_run_with_their_stages_and_workers_in_order() -> None:
    told = [(code(row[0]), code(row[2]), code(row[3])) for row in table("pipeline", "workers")]
    known = [
        (
            [str(task)],
            [spec.name for spec in pipeline.stages],
            list(dict.fromkeys(spec.worker for spec in pipeline.stages)),
        )
        for task in PIPELINES.tasks
        if (pipeline := PIPELINES.of(task))
    ]
    assert sorted(told) == sorted(known), REMEDY


def test_what_capabilities_may_use_of_each_other_is_what_the_import_rules_allow() -> None:
    told = {
        path.rstrip("/").replace("/", "."): {f"dpn.{other}" for other in code(row[-1])}
        for row in table("part", "uses")
        for path in code(row[0])
    }
    assert {capability: told.get(capability) for capability in CAPABILITIES} == CAPABILITIES, REMEDY


def test_the_foundations_are_those_of_the_import_rules() -> None:
    paragraph = TEXT.partition("are the foundations")[2].partition("\n\n")[0]
    for_all, _, for_those_who_start = paragraph.partition("only for those who start something")
    for part, known in ((for_all, FOR_ALL), (for_those_who_start, FOR_THOSE_WHO_START)):
        assert {path.removesuffix(".py").replace("/", ".") for path in code(part)} == known, REMEDY


def test_the_outcomes_are_those_that_a_stage_may_return() -> None:
    told = [name for row in table("outcome", "what follows (`dpn/work/lifecycle.py`)") for name in code(row[0])]
    assert sorted(told) == sorted(outcome.__name__ for outcome in Outcome.__args__), REMEDY


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('stages') / 'node.db'}")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("number", "raised", "becomes"),
    [(number, code(row[0])[0], code(row[1])[0]) for number, row in enumerate(table("raised", "why"))],
)
def test_what_a_stage_raises_becomes_what_it_says(engine: Engine, number: int, raised: str, becomes: str) -> None:
    def behave(_: Job[Any]) -> Outcome:
        raise error

    kind = getattr(errors, raised, Exception)
    error = kind("peer:north", "down") if issubclass(kind, errors.ServiceUnavailable) else kind("why")
    bench = Bench(open_sessions(engine))
    item = bench.run(bench.make_item(number), behave)
    came = {
        (Status.PENDING, 0): "Wait",
        (Status.PENDING, 1): "Retry",
        (Status.FAILED, 1): "Fail",
    }[Status(item.status), item.attempts]
    assert came == becomes


def test_every_kind_of_error_is_told() -> None:
    """Those that the tree of errors has below its root; a stage that raises another gets what its base gets."""
    told = {name for row in table("raised", "why") for name in code(row[0])} | {"Interrupted"}
    assert {
        kind.__name__ for kind in errors.DpnError.__subclasses__() if kind.__module__ == "dpn.errors"
    } == told - {"Exception"}


def numbers(pattern: str) -> list[int]:
    return [int(number) for number in re.findall(pattern, TEXT, re.MULTILINE)]


PROMISES = numbers(r"^(\d+)\. \*\*")
INVARIANTS = numbers(r"^- \*\*I(\d+) ")


def test_promises_and_invariants_are_counted_without_a_gap() -> None:
    assert list(range(1, len(PROMISES) + 1)) == PROMISES
    assert list(range(1, len(INVARIANTS) + 1)) == INVARIANTS


def test_whoever_cites_a_promise_or_an_invariant_cites_one_that_is_there_and_says_where() -> None:
    cited = re.compile(r"\bpromises? (\d+)(?:(?: to |–| and )(\d+))?|\bI(\d+)(?: to I(\d+))?\b")
    found = 0
    for path in sorted(path for top in (*CODE, "tests", "benchmarks") for path in (ROOT / top).rglob("*.py")):
        if path == Path(__file__):
            continue
        for match in cited.finditer(text := path.read_text(encoding="utf-8")):
            promises, invariants = match.groups()[:2], match.groups()[2:]
            assert {int(one) for one in promises if one} <= set(PROMISES), f"{path}: {match[0]}"
            assert {int(one) for one in invariants if one} <= set(INVARIANTS), f"{path}: {match[0]}"
            assert "docs/architecture.md" in text, f"{path} cites {match[0]} and does not say where that stands"
            found += 1
    assert found >= 3


def test_what_is_not_kept_whole_is_among_what_is_promised() -> None:
    gaps = TEXT.partition("\n## Not kept whole yet\n")[2].partition("\n## ")[0]
    assert set(map(int, re.findall(r"^- Promise (\d+):", gaps, re.MULTILINE))) <= set(PROMISES)
    assert set(map(int, re.findall(r"^- I(\d+):", gaps, re.MULTILINE))) <= set(INVARIANTS)
