"""What is started imports what it needs and no more: a command is quick, a process at rest is small."""

from __future__ import annotations

import subprocess
import sys

HOUSE = ("models", "dpn", "workers")


def loaded_by(code: str) -> set[str]:
    """Every module that a fresh interpreter has once it has run `code`."""
    show = "import sys; print(*sys.modules, sep=chr(10), file=sys.stderr)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(run.stderr.split())


def test_the_settings_load_nothing_of_what_they_configure() -> None:
    ours = {module for module in loaded_by("import dpn.settings_file") if module.partition(".")[0] in HOUSE}
    folders = {module.rpartition(".")[0] for module in ours if module.endswith(".settings")}
    allowed = folders | {"dpn.bags", "dpn.errors", "dpn.setting_types", "dpn.settings_file"}
    assert {module for module in ours if not module.endswith(".settings")} == allowed
