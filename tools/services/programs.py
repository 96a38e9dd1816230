"""Finds the servers' programs: on PATH, where Debian hides them, or where `bin/setup --services` built them."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
"""The folder with go.mod and go.sum, which pin what is built."""

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Not on everybody's PATH."""


class MissingProgram(Exception):
    """A program that a service needs is not there."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} is not installed: run bin/setup --services")


def find(program: str, *folders: str | Path) -> str:
    """The path of `program`. Raises MissingProgram."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders), *SYSTEM_FOLDERS])
    found = shutil.which(program, path=path)
    if found is None:
        raise MissingProgram(program)
    return found


def find_built(program: str) -> str:
    """The path of a program that is built from tools/go.mod where PATH has none. Raises MissingProgram."""
    return find(program, build_folder())


def build_folder() -> Path:
    """Where the programs of this go.mod and go.sum are built: another pin means another folder."""
    pins = (TOOLS / "go.mod").read_bytes() + (TOOLS / "go.sum").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dpn" / "tools" / hashlib.sha256(pins).hexdigest()[:16] / "bin"


def postgresql_folders() -> list[Path]:
    """Where Debian keeps the server's programs, newest version first."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)
