"""What README and docs/ name is there: commands and their options, paths, settings, units, log events, notes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import tools.demo.__main__ as demo
from dpn.cli.main import app
from dpn.settings import PeerSettings, Settings
from dpn.telemetry.prometheus import PrometheusMetrics
from dpn.work.outcomes import Outcome
from models.work import Status, WorkItem
from workers.pipelines import PIPELINES

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = ROOT / "docs" / "operations.md"
INSTALLED = "/opt/dpn/"

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|\$\(|[|;&]\s*|bin/)dpn (?P<arguments>.*)")
PARTS = {"bin", "config", "docs", "dpn", "models", "workers", "tests", "benchmarks", "tools"}
FIRST_COLUMN = re.compile(r"^\| (?P<cell>(?:[^|\\]|\\.)+) \|", re.MULTILINE)

SOURCES = "\n".join(
    re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))  # a text broken over lines is one text
    for folder in ("dpn", "models", "workers")
    for path in sorted((ROOT / folder).rglob("*.py"))
)


@dataclass(frozen=True)
class Named:
    """Something that a page names."""

    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text}"


def said(page: Path) -> str:
    """The page without the files of its worked example: test_adding_a_pipeline holds what stands in these."""
    return re.sub(r"^```(?:python|diff)\n.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[str]:
    for found in FENCE.finditer(page.read_text(encoding="utf-8")):
        if found["language"] == language:
            yield found["code"]


def spans(page: Path) -> Iterator[str]:
    """Code inside sentences and tables."""
    for found in SPAN.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield found[1].replace(r"\|", "|")


def shell_lines(page: Path) -> Iterator[str]:
    for block in blocks(page, "sh"):
        yield from block.replace("\\\n", " ").splitlines()


def commands() -> Iterator[Named]:
    for page in PAGES:
        for line in (*shell_lines(page), *(span for span in spans(page) if re.match("(bin/)?dpn ", span))):
            for found in COMMAND.finditer(line):
                yield Named(page, found["arguments"])


def words_of(command: str) -> list[str]:
    """The words of one command, to where the shell would end it."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;()<>#")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = list(lexer)
    ends = [number for number, word in enumerate(words) if set(word) <= set("|&;()<>#")]
    words = words[: ends[0]] if ends else words
    return [word for word in words if word != "$@"]


@pytest.mark.parametrize("named", list(commands()), ids=str)
def test_a_command_and_its_options_exist(named: Named) -> None:
    words = iter(words_of(named.text))
    command: Any = typer.main.get_command(app)
    for word in words:
        if word == "--config":
            next(words)
        elif word.startswith("-"):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--config"}
            assert word in known, f"dpn {command.name} has no {word}"
        elif hasattr(command, "get_command"):
            command = command.get_command(None, word)
            assert command is not None, f"no command {word}"


def test_a_stage_that_a_worker_command_names_exists() -> None:
    named = {found for page in PAGES for found in re.findall(r"dpn worker ([a-z0-9-]+)", page.read_text())}
    assert named <= {spec.worker for spec in PIPELINES.all_specs()} | {"all"}


def test_the_options_of_the_demo_exist() -> None:
    known = {option for parameter in typer.main.get_command(demo.app).params for option in parameter.opts}
    lines = [line for page in PAGES for line in (*shell_lines(page), *spans(page)) if "bin/demo" in line]
    named = {word for line in lines for word in line.split() if word.startswith("--")}
    assert lines
    assert named <= known | {"--help"}


def paths() -> Iterator[Named]:
    for page in PAGES:
        for text in (*shell_lines(page), *spans(page)):
            for word in re.split(r"[\s\"'=:]+", text):
                path = word.removeprefix(INSTALLED)
                if path.split("/")[0] in PARTS and "/" in path:
                    yield Named(page, path)


@pytest.mark.parametrize("named", list(paths()), ids=str)
def test_a_path_of_ours_exists(named: Named) -> None:
    assert list(ROOT.glob(named.text.rstrip("/"))), f"{named.text} is not there"


@pytest.mark.parametrize(
    "named", [Named(page, link) for page in PAGES for link in LINK.findall(said(page))], ids=str
)
def test_a_link_leads_somewhere(named: Named) -> None:
    path, _, anchor = named.text.partition("#")
    if re.match("https?:", path):
        return
    target = (named.page.parent / path).resolve() if path else named.page
    assert target.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def settings() -> Iterator[Named]:
    for page in PAGES:
        for span in spans(page):
            name = span.split(" ")[0].strip("[]").removesuffix("_")
            if name.split(".")[0] in Settings.model_fields and "." in name and "/" not in name:
                yield Named(page, name)


@pytest.mark.parametrize("named", list(settings()), ids=str)
def test_a_setting_exists(named: Named) -> None:
    assert setting_exists(named.text.split("."))


@pytest.mark.parametrize(
    "variable",
    sorted({found for page in PAGES for found in re.findall(r"DPN_[A-Z_]+__[A-Z_]+", page.read_text())}),
)
def test_a_variable_exists(variable: str) -> None:
    assert setting_exists(variable.removeprefix("DPN_").lower().split("__"))


def setting_exists(keys: list[str]) -> bool:
    model: Any = Settings
    for number, key in enumerate(keys):
        if model is Settings and key == "peers":
            return len(keys) == 2 or _exists_in(PeerSettings, keys[number + 2 :])
        if key not in model.model_fields:
            return False
        model = model.model_fields[key].annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return True
    return True


def _exists_in(model: type[BaseModel], keys: list[str]) -> bool:
    if not keys:
        return True
    field = model.model_fields.get(keys[0])
    if field is None:
        return False
    inner = field.annotation
    is_table = isinstance(inner, type) and issubclass(inner, BaseModel)
    return _exists_in(inner, keys[1:]) if is_table else len(keys) == 1


def test_a_unit_exists() -> None:
    ours = {path.name for path in (ROOT / "config" / "systemd").iterdir()}
    for page in PAGES:
        text = said(page)
        for name in re.findall(r"\bdpn(?:-[a-z]+)?(?:@[a-z…-]+)?\.(?:service|timer|target)\b", text):
            assert re.sub(r"@[^.]*|(?<=worker)….", "@", name) in ours, f"{page.name}: {name}"
        for stage in re.findall(r"\bdpn-worker@([a-z0-9-]+)", text):
            assert stage in {spec.worker for spec in PIPELINES.all_specs()}


def test_a_program_or_metric_of_ours_exists() -> None:
    metrics = {metric.name for metric in PrometheusMetrics().registry.collect()}
    programs = {path.name for path in (ROOT / "bin").iterdir()}
    for page in PAGES:
        for span in spans(page):
            if re.fullmatch(r"dpn_[a-z_]+", span):
                assert span in programs or span.removesuffix("_total") in metrics, f"{page.name}: {span}"


def test_every_metric_is_explained() -> None:
    text = OPERATIONS.read_text()
    assert all(f"`{metric.name}" in text for metric in PrometheusMetrics().registry.collect())


def column(page: Path, heading: str, title: str) -> list[str]:
    """The code in the first column of the tables under a heading whose first column has that title."""
    text = FENCE.sub("", page.read_text()).partition(f"\n{heading}\n")[2]
    text = re.split(rf"^#{{1,{heading.count('#')}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found: list[str] = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = FIRST_COLUMN.findall(table)
        if cells[0] == title:
            found += [span.replace(r"\|", "|") for cell in cells[2:] for span in SPAN.findall(cell)]
    assert found, f"{page.name} has no such table"
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", OPERATIONS], ids=lambda page: page.name)
def test_every_status_is_explained_and_no_other(page: Path) -> None:
    heading = "## Look at items and logs" if page.name == "README.md" else "## Reading an item"
    assert column(page, heading, "status") == [status.value for status in Status]


def test_every_outcome_is_explained_and_no_other() -> None:
    named = column(OPERATIONS, "## Reading the log", "outcome")
    known = {outcome.__name__.lower() for outcome in Outcome.__args__} | {"released"}
    assert set(named) == known


def test_the_fields_of_an_item_exist() -> None:
    assert set(column(OPERATIONS, "## Reading an item", "field")) <= {*WorkItem.__table__.columns.keys(), "bag"}


@pytest.mark.parametrize("event", column(OPERATIONS, "## Reading the log", "event"))
def test_an_event_of_the_log_is_written_somewhere(event: str) -> None:
    assert pieces_are_in_the_code(event)


@pytest.mark.parametrize("note", column(OPERATIONS, "## What the note says, and what to do", "note"))
def test_a_note_is_written_somewhere(note: str) -> None:
    assert pieces_are_in_the_code(note)


def pieces_are_in_the_code(text: str) -> bool:
    """Whether what stands between names and numbers (`…`) stands in our sources, too."""
    pieces = [piece for piece in text.split("…") if len(piece.strip()) > 1]
    return bool(pieces) and all(piece in SOURCES for piece in pieces)
