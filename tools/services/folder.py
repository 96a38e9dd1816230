"""DIR: what runs (services.json), and what a service keeps from one start to the next (kept.json)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpn.supervision.process_id import ProcessId
from tools.services.service import Home


class UnusableFolder(Exception):
    """DIR cannot be used; the text says why and what to do."""


class Folder:
    """One set of services. Its files are whole at any time; `locked` keeps two callers from crossing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, and makes other callers wait. Raises UnusableFolder."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise UnusableFolder(
                f"{self.path}: {error.strerror}: give --dir a folder that you may write"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @property
    def document(self) -> Path:
        """The file that holds every address."""
        return self.path / "services.json"

    def entries(self) -> dict[str, dict[str, Any]]:
        """What was started and not stopped, alive or not. Raises UnusableFolder."""
        entries: dict[str, dict[str, Any]] = self._read(self.document).get("services", {})
        return entries

    def set_entry(self, name: str, entry: dict[str, Any], process: ProcessId) -> None:
        """Records a service as started."""
        identity = {"pid": process.pid, "start_ticks": process.start_ticks, "boot_id": process.boot_id}
        self._write_entries(self.entries() | {name: entry | identity})

    def remove_entry(self, name: str) -> None:
        """Records a service as stopped."""
        self._write_entries({other: entry for other, entry in self.entries().items() if other != name})

    def home(self, name: str) -> Home:
        """A service's folder and what it kept."""
        kept = self._read(self._kept).get(name, {})
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return Home(name, path, **kept, others=self.entries())

    def keep(self, home: Home) -> None:
        """Keeps a service's ports, secrets and flags for the next start."""
        kept = {"ports": home.ports, "secrets": home.secrets, "flags": home.flags}
        _write(self._kept, self._read(self._kept) | {home.name: kept})

    def wipe(self, name: str) -> None:
        """Removes a service's data; its ports, secrets and flags stay."""
        shutil.rmtree(self.path / name, ignore_errors=True)

    def forget(self) -> None:
        """Removes what is left once all services are stopped and wiped; foreign files stay."""
        for path in (self.document, self._kept):
            path.unlink(missing_ok=True)

    @property
    def _kept(self) -> Path:
        return self.path / "kept.json"

    def _write_entries(self, entries: dict[str, dict[str, Any]]) -> None:
        _write(self.document, {"dir": str(self.path), "services": entries})

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UnusableFolder(
                f"{path}: not JSON ({error}): give --dir another folder, or remove this file"
            ) from error
        if not isinstance(document, dict):
            raise UnusableFolder(f"{path}: not written by bin/services: give --dir another folder")
        return document


def process_of(entry: dict[str, Any]) -> ProcessId:
    """The process that an entry of services.json means."""
    return ProcessId(entry["pid"], entry["start_ticks"], entry["boot_id"])


def _write(path: Path, document: dict[str, Any]) -> None:
    """Replaces `path` in one step; it holds passwords, so only we may read it."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
