"""Finds the servers' programs: on PATH, where Debian hides them, or where `bin/setup --services` built them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
"""The folder with go.mod and go.sum, which pin what is built."""

RCLONE = TOOLS / "rclone"
"""rclone's own module."""

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
    return find(program, build_folder(TOOLS))


def find_rclone() -> str:
    """PATH's rclone if it is at least the pinned one, else the one that was built. Raises MissingProgram."""
    on_path = shutil.which("rclone")
    if on_path is not None and _rclone_version(on_path) >= _pinned_rclone():
        return on_path
    built = shutil.which("rclone", path=build_folder(RCLONE))
    if built is None:
        raise MissingProgram("rclone")
    return built


def build_folder(module: Path) -> Path:
    """Where the programs of a Go module are built: other pins or sources mean another folder."""
    sources = [module / "go.mod", module / "go.sum", *sorted(module.glob("*.go"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dpn" / "tools" / digest[:16] / "bin"


def newest_first(pattern: str) -> list[Path]:
    """Folders of /usr/lib whose names hold a version, newest first."""
    return sorted(Path("/usr/lib").glob(pattern), key=lambda folder: _numbers(str(folder)), reverse=True)


def _rclone_version(program: str) -> list[int]:
    told = subprocess.run(
        [program, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return _numbers(told.stdout.partition("\n")[0])


def _pinned_rclone() -> list[int]:
    pin = re.search(
        r"^require github\.com/rclone/rclone (v[0-9.]+)$", (RCLONE / "go.mod").read_text(), re.MULTILINE
    )
    if pin is None:
        raise ValueError(f"{RCLONE / 'go.mod'} pins no rclone")
    return _numbers(pin[1])


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", text)]


def postgresql_folders() -> list[Path]:
    """Where Debian keeps the server's programs, newest version first."""
    return newest_first("postgresql/*/bin")
