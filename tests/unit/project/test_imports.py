"""Imports point one way: bin → workers → dpn → models (docs/architecture.md, which way imports point)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpn.cli.main import COMMANDS
from models.work import Task
from workers.pipelines import PACKAGES

ROOT = Path(__file__).resolve().parents[3]
HOUSE = ("models", "dpn", "workers")
"""The floors of the house, from the ground up; bin/ holds no Python that could be imported."""

FOR_ALL = {
    "dpn.cancellation", "dpn.clock", "dpn.database", "dpn.errors", "dpn.files", "dpn.http_bounds",
    "dpn.identifiers", "dpn.local_causes", "dpn.process", "dpn.runtime", "dpn.setting_types", "dpn.text",
}  # fmt: skip
"""Single modules that every capability may use."""

FOR_THOSE_WHO_START = {"dpn.settings", "dpn.settings_file", "dpn.node"}
"""Who reads the file or opens a node hands each its section on: a capability knows its own, never all of them."""

CAPABILITIES: dict[str, set[str]] = {
    "dpn.access": set(),
    "dpn.audit": set(),
    "dpn.bags": set(),
    "dpn.broker": set(),
    "dpn.fixity": {"dpn.audit", "dpn.registry", "dpn.work"},
    "dpn.ingest": {"dpn.audit", "dpn.bags", "dpn.packaging", "dpn.registry", "dpn.work"},
    "dpn.jobs": {"dpn.objects"},
    "dpn.objects": {"dpn.s3"},
    "dpn.outbound": {"dpn.audit", "dpn.registry", "dpn.telemetry"},
    "dpn.packaging": {"dpn.bags", "dpn.s3"},
    "dpn.recovery": {"dpn.audit", "dpn.bags", "dpn.fixity", "dpn.registry", "dpn.transfer", "dpn.work"},
    "dpn.registry": set(),
    "dpn.s3": set(),
    "dpn.doors": {"dpn.broker", "dpn.s3", "dpn.telemetry", "dpn.work"},
    "dpn.server": {"dpn.access", "dpn.ingest", "dpn.registry", "dpn.telemetry", "dpn.work"},
    "dpn.staging": set(),
    "dpn.storage": {"dpn.s3"},
    "dpn.supervision": set(),
    "dpn.telemetry": set(),
    "dpn.transfer": set(),
    "dpn.work": {"dpn.audit", "dpn.broker"},
}
"""What each folder of dpn may use of the others. dpn.cli, where all is put together, may use everything."""

FOUNDATIONS: dict[str, set[str]] = {
    "dpn.cancellation": {"dpn.errors", "dpn.runtime"},
    "dpn.clock": set(),
    "dpn.database": {"dpn.errors"},
    "dpn.errors": set(),
    "dpn.files": set(),
    "dpn.http_bounds": set(),
    "dpn.identifiers": set(),
    "dpn.node": {"dpn.broker", "dpn.clock", "dpn.database", "dpn.settings", "dpn.telemetry"},
    "dpn.local_causes": {"dpn.database", "dpn.errors", "dpn.files"},
    "dpn.process": {"dpn.errors"},
    "dpn.runtime": set(),
    "dpn.setting_types": {"dpn.errors", "dpn.identifiers", "dpn.text"},
    "dpn.settings": {"dpn.setting_types"},
    "dpn.settings_file": {"dpn.setting_types", "dpn.settings"},
    "dpn.text": set(),
}
"""What the single modules may use of each other: they know of no capability."""

PIPELINE_FOLDERS = {".".join(package.__name__.split(".")[:2]) for package in PACKAGES}
"""A pipeline may have its replies, a pipeline too, in its own folder."""

CRON_JOBS = {"workers.queue", "workers.reconcile", "workers.sync"}
"""What of workers is neither a pipeline nor shared by all: these may know pipelines."""

READS_AS_A_CHECK_DOES = {
    ("workers.restore.wiring", "workers.fixity"),
    ("workers.restore.wiring", "workers.fixity.wiring"),
}
"""The only way from one pipeline into another: a restore reads and judges our copy as a check does."""

CORE = ("dpn.work", "dpn.broker", "workers.runner")
"""Knows items, stages and leases; no pipeline, no transfer, no bag."""

Import = tuple[str, str]


def modules() -> dict[str, Path]:
    """Every module of the house by its dotted name."""
    files = [path for floor in HOUSE for path in (ROOT / floor).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files
    }


def imports_of(module: str, path: Path) -> Iterator[str]:
    """What the module imports, anywhere in its text, with the names it takes from packages."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}: write the whole name"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="module")
def arrows() -> set[Import]:
    """Every (importing module, imported module) within the house, and to what lies beside it."""
    known = modules()
    packages = {"bin", "tools", "tests", "benchmarks", *HOUSE}
    return {
        (module, imported)
        for module, path in known.items()
        for imported in imports_of(module, path)
        if imported.partition(".")[0] in packages
        and (imported in known or imported.partition(".")[0] not in HOUSE)
    }


def part(module: str) -> str:
    """The folder or single module of dpn that a module belongs to."""
    return ".".join(module.split(".")[:2])


def is_section(module: str) -> bool:
    """Whether it is the settings of one folder, beside what they configure."""
    return module.startswith("dpn.") and module.count(".") > 1 and module.endswith(".settings")


def test_each_floor_uses_only_those_below(arrows: set[Import]) -> None:
    allowed = {"models": {"models"}, "dpn": {"dpn", "models"}, "workers": {"workers", "dpn", "models"}}
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if imported.partition(".")[0] not in allowed[module.partition(".")[0]] and part(module) != "dpn.cli"
    ]
    assert wrong == []


def test_nothing_that_runs_in_production_uses_what_is_made_for_development(arrows: set[Import]) -> None:
    development = {"tests", "benchmarks", "tools", "bin"}
    assert [arrow for arrow in sorted(arrows) if arrow[1].partition(".")[0] in development] == []


def test_capabilities_use_each_other_only_as_the_picture_shows(arrows: set[Import]) -> None:
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if part(module) in CAPABILITIES
        and imported.startswith("dpn.")
        and part(imported) not in {part(module), *FOR_ALL, *CAPABILITIES[part(module)]}
        and not (is_section(module) and is_section(imported))
    ]
    assert wrong == []


def test_a_section_of_the_settings_uses_nothing_but_their_types_the_spelling_of_ids_and_other_sections(
    arrows: set[Import],
) -> None:
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if is_section(module)
        and imported not in ("dpn.setting_types", "dpn.identifiers")
        and not is_section(imported)
    ]
    assert wrong == []


NOT_TO_BE_SET_YET = {"dpn.doors.settings"}
"""No pipeline takes requests from a door yet: a table that did nothing would mislead."""


def test_every_section_is_put_into_the_tree(arrows: set[Import]) -> None:
    within = {imported for module, imported in arrows if module == "dpn.settings" or is_section(module)}
    assert {module for module in modules() if is_section(module)} - NOT_TO_BE_SET_YET <= within


def test_the_foundations_know_of_no_capability(arrows: set[Import]) -> None:
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if module in FOUNDATIONS
        and imported.startswith("dpn.")
        and part(imported) not in FOUNDATIONS[module]
        and not (module == "dpn.settings" and is_section(imported))
    ]
    assert wrong == []


def test_every_part_of_dpn_has_its_place_in_the_picture() -> None:
    found = {part(module) for module in modules() if module.startswith("dpn.")}
    assert found <= {*CAPABILITIES, *FOUNDATIONS, "dpn.cli"}
    assert set(FOUNDATIONS) == FOR_ALL | FOR_THOSE_WHO_START


def test_what_http_services_share_knows_of_none_and_none_of_another(arrows: set[Import]) -> None:
    def service(module: str) -> str | None:
        """The folder of dpn.server that it lies in; None for what all of them share."""
        folder = ".".join(module.split(".")[:3])
        return folder if module.startswith("dpn.server.") and folder in services else None

    services = {module.rpartition(".")[0] for module in modules() if re.match(r"dpn\.server\.\w+\.", module)}
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if part(module) == "dpn.server" and service(imported) not in (None, service(module))
    ]
    assert wrong == []
    assert {"dpn.server.registry", "dpn.server.deposits"} <= services


def test_only_what_serves_imports_a_web_framework() -> None:
    """It takes a quarter of a second of processor and ten megabytes."""
    commands = {entry.defined.partition(":")[0] for entry in COMMANDS.values()}
    code = "import sys, " + ", ".join(sorted(commands)) + "; print({'fastapi', 'uvicorn'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_nothing_but_the_command_line_uses_the_command_line(arrows: set[Import]) -> None:
    assert [a for a in sorted(arrows) if part(a[1]) == "dpn.cli" and part(a[0]) != "dpn.cli"] == []


def pipeline(module: str) -> str | None:
    """The folder of the pipeline that the module belongs to, or None."""
    return next((one for one in PIPELINE_FOLDERS if f"{module}.".startswith(f"{one}.")), None)


def test_no_pipeline_uses_another_pipeline(arrows: set[Import]) -> None:
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if pipeline(module) and pipeline(imported) not in (None, pipeline(module))
    ]
    assert set(wrong) <= READS_AS_A_CHECK_DOES, wrong


def test_only_the_list_of_pipelines_and_cron_jobs_name_a_pipeline(arrows: set[Import]) -> None:
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if module.startswith("workers.")
        and pipeline(imported)
        and not pipeline(module)
        and module != "workers.pipelines"
        and part(module) not in CRON_JOBS
    ]
    assert wrong == []


def test_a_stage_uses_nothing_that_runs_stages(arrows: set[Import]) -> None:
    wrong = [
        (module, imported)
        for module, imported in sorted(arrows)
        if pipeline(module)
        and (
            imported.startswith("workers.runner") or imported == "workers.pipelines" or part(imported) in CRON_JOBS
        )
        and imported != "workers.runner.services"
    ]
    assert wrong == []


def core_modules() -> dict[str, Path]:
    return {module: path for module, path in modules().items() if part(module) in CORE}


def test_the_core_names_no_pipeline_no_transfer_and_no_bag() -> None:
    """In its code, that is: what an operator reads in a note or a docstring may be an example."""
    tasks = {task.value for task in Task}
    wrong: list[tuple[str, int, object]] = []
    for module, path in core_modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute | ast.arg):
                word = next(getattr(node, name) for name in ("id", "attr", "arg") if hasattr(node, name))
                if re.search(r"(?i)transfer|bag|replicat|ingest|restor|fixity", word):
                    wrong.append((module, node.lineno, word))
            elif isinstance(node, ast.ImportFrom) and node.module == "models.work":
                wrong += [(module, node.lineno, one.name) for one in node.names if one.name == "Task"]
            elif isinstance(node, ast.Constant) and node.value in tasks:
                wrong.append((module, node.lineno, node.value))
    assert wrong == []
    assert len(core_modules()) > 20


def test_the_core_reads_no_manifest_but_what_all_items_carry(arrows: set[Import]) -> None:
    specific = ("BagManifest", "models.manifests.", "models.registry", "models.preservation")
    wrong = [
        (module, imported)
        for module, path in core_modules().items()
        for imported in imports_of(module, path)
        if any(one in imported for one in specific)
        and imported.rpartition(".")[2]
        not in {"ItemManifest", "ManifestUnreadable", "StageSummary", "upload_owned", "ManifestTooNew"}
    ]
    assert wrong == []


def test_the_walk_sees_what_is_there(arrows: set[Import]) -> None:
    """Else the other tests would hold nothing."""
    assert ("workers.runner.worker", "workers.runner.stage_runner") in arrows
    assert ("dpn.work.leases", "models.work") in arrows
    assert ("dpn.cli.worker", "workers.runner.worker") in arrows, "imports inside functions count"
    assert len(arrows) > 200
