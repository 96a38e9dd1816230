"""What is started imports what it needs and no more: a command is quick, a process at rest is small."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer

from dpn.cli.main import COMMANDS, app
from dpn.database import open_engine, upgrade

HEAVY = {
    "alembic", "asyncio", "boto3", "fastapi", "jinja2", "nsq", "prometheus_client", "psycopg", "pydantic",
    "requests", "rich.console", "rich.traceback", "sqlalchemy", "starlette", "structlog", "tornado", "typer",
    "uvicorn",
}  # fmt: skip
"""What costs a start milliseconds and megabytes."""

FOR_A_DATABASE = {"asyncio", "pydantic", "sqlalchemy", "structlog", "typer"}
"""What every command loads that opens a node: SQLAlchemy itself loads asyncio."""


def loaded_by(*program: str) -> set[str]:
    """Every module that Python imported to run the program, which must end well."""
    command = [sys.executable, "-P", "-X", "importtime", *program]
    return modules_in(subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines())


def modules_in(told: Iterable[str]) -> set[str]:
    return {line.rpartition("|")[2].strip() for line in told if line.startswith("import time:")}


def dpn(*arguments: str) -> set[str]:
    return loaded_by("-m", "dpn.cli.main", *arguments)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The settings of a node whose database is there and empty."""
    file = tmp_path / "node.toml"
    file.write_text(f"""
        node = {{namespace = "south", api_root = "https://dpn.south.example.org"}}
        database.url = "sqlite:///{tmp_path}/node.db"
        staging.volumes.main = "{tmp_path}"
        store.url = "file://{tmp_path}/store"
        """)
    upgrade(open_engine(f"sqlite:///{tmp_path}/node.db"))
    return str(file)


def test_the_settings_load_nothing_of_what_they_configure() -> None:
    loaded = loaded_by("-c", "import dpn.settings_file")
    sections = {module for module in loaded if module.startswith("dpn.") and module.endswith(".settings")}
    folders = {section.rpartition(".")[0] for section in sections - {"dpn.settings"}} | {"dpn.bags"}
    within = {module for module in loaded if any(module.startswith(f"{folder}.") for folder in folders)}
    assert {"dpn.storage.settings", "dpn.bags.validation.settings"} <= sections
    assert within <= sections | folders
    assert loaded & HEAVY == {"pydantic"}


def test_the_list_of_commands_imports_no_command() -> None:
    loaded = dpn("--help")
    ours = {module for module in loaded if module.startswith("dpn.")}
    assert ours <= {"dpn.cli", "dpn.cli.main", "dpn.cli.owner", "dpn.errors"}
    assert loaded & HEAVY <= {"rich.console", "rich.traceback", "typer"}, "typer draws it with rich"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    group: typer.core.TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]
    command = group.get_command(typer.Context(group), name)
    assert command is not None
    assert command.help is not None
    assert " ".join(command.help.partition("\n\n")[0].split()) == COMMANDS[name].help


def test_a_command_that_shows_items_loads_what_reads_the_database_alone(config: str) -> None:
    assert dpn("--config", config, "items", "--json") & HEAVY == FOR_A_DATABASE
    assert dpn("--config", config, "items") & HEAVY == FOR_A_DATABASE


def test_a_command_loads_the_dialect_of_its_database_alone(config: str) -> None:
    loaded = dpn("--config", config, "items", "--json")
    assert "sqlalchemy.dialects.sqlite" in loaded
    assert not {module for module in loaded if module.startswith("sqlalchemy.dialects.postgresql")}


OPEN_A_BUCKET = """
from dpn.clock import SystemClock
from dpn.storage.ownership.own_store import open_own_store
from dpn.storage.settings import StoreSettings
open_own_store(StoreSettings(url="s3://bucket"), node="south", sessions=None, clock=SystemClock())
"""


def test_a_store_that_nobody_has_asked_yet_has_not_loaded_botocore() -> None:
    loaded = loaded_by("-c", OPEN_A_BUCKET)
    assert "dpn.storage.ownership.own_store" in loaded
    assert "botocore" not in loaded


@pytest.mark.parametrize(
    ("worker", "its_own", "of_others"),
    [
        ("copy", "dpn.transfer.rsync", {"dpn.bags.validation.validation", "models.registry"}),
        ("package", "dpn.packaging.package", {"dpn.transfer.rsync", "workers.replication.copy"}),
        ("tell", "workers.notice.tell", {"dpn.bags.tar.headers", "dpn.storage.store", "models.registry"}),
    ],
)
def test_a_worker_that_has_nothing_to_do_has_loaded_what_its_stage_needs(
    config: str, worker: str, its_own: str, of_others: set[str]
) -> None:
    """HTTP, too, comes with the first word to a peer."""
    command = [
        sys.executable,
        "-P",
        "-X",
        "importtime",
        "-m",
        "dpn.cli.main",
        "--config",
        config,
        "worker",
        worker,
    ]
    told = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if "worker started" in line:
                process.terminate()
    assert process.returncode == 0, "".join(told)
    loaded = modules_in(told)
    assert its_own in loaded
    assert not loaded & of_others
    assert loaded & HEAVY == FOR_A_DATABASE


def test_validating_a_bag_needs_no_node_and_nothing_that_builds_one() -> None:
    loaded = dpn("bag", "validate", "--help")
    assert "dpn.bags.validation.validation" in loaded
    assert "dpn.bags.building.build" not in loaded
    assert not {"dpn.settings", "models.work", "sqlalchemy"} & loaded
