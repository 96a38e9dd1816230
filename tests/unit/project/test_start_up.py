"""What is started imports what it needs and no more: a command is quick, a process at rest is small."""

from __future__ import annotations

import subprocess
import sys

LIBRARIES = {
    "alembic", "asyncio", "boto3", "fastapi", "jinja2", "multiprocessing", "prometheus_client", "psycopg",
    "requests", "rich", "sqlalchemy", "starlette", "structlog", "tornado", "typer", "uvicorn",
}  # fmt: skip
"""What costs a start milliseconds and megabytes."""


def loaded_by(code: str) -> set[str]:
    """Every module that a fresh interpreter has once it has run `code`."""
    show = "import sys; print(*sys.modules, sep=chr(10), file=sys.stderr)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(run.stderr.split())


def test_the_settings_load_nothing_of_what_they_configure() -> None:
    loaded = loaded_by("import dpn.settings_file")
    sections = {module for module in loaded if module.startswith("dpn.") and module.endswith(".settings")}
    folders = {section.rpartition(".")[0] for section in sections} | {"dpn.bags"}
    within = {module for module in loaded if any(module.startswith(f"{folder}.") for folder in folders - {"dpn"})}
    assert within <= sections | folders
    assert not loaded & LIBRARIES
