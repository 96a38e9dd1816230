"""What bin/setup installs is pinned, all of it, and says nothing about where it was pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted((ROOT / "tools").glob("requirements*.lock"))


def pins(lock: str) -> dict[str, set[str]]:
    """The versions that a lock names for each package; several where the Python version decides."""
    versions: dict[str, set[str]] = {}
    for line in (ROOT / "tools" / lock).read_text().splitlines():
        if not line.startswith(" "):
            requirement = Requirement(line.rstrip("\\ "))
            version = str(requirement.specifier).removeprefix("==")
            versions.setdefault(canonicalize_name(requirement.name), set()).add(version)
    return versions


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def unmet(requirements: list[str], pinned: dict[str, set[str]]) -> list[str]:
    wanted = [Requirement(requirement) for requirement in requirements]
    return [
        str(requirement)
        for requirement in wanted
        if not pinned.get(canonicalize_name(requirement.name))
        or not all(
            requirement.specifier.contains(version) for version in pinned[canonicalize_name(requirement.name)]
        )
    ]


def test_the_locks_hold_all_that_the_project_asks_for():
    document = project()
    assert unmet(document["project"]["dependencies"], pins("requirements.lock")) == []
    assert unmet(document["dependency-groups"]["dev"], pins("requirements-dev.lock")) == []
    assert unmet(document["build-system"]["requires"], pins("requirements-build.lock")) == []


def test_tests_run_on_the_versions_that_a_node_runs_on():
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: development.get(name) for name in runtime} == runtime


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_names_versions_and_hashes_only(lock):
    pin = r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[^ ;]+( ; [a-z_ ]+[^/:\\]*)? \\"
    digest = r"    --hash=sha256:[0-9a-f]{64}( \\)?"
    lines = lock.read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(f"{pin}|{digest}", line, re.IGNORECASE)] == []
