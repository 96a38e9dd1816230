"""What runs, for all who ask: a lock that only the living hold, and what its holder has said last."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dpn.errors import DpnError, Misconfigured
from dpn.files import replace_file
from dpn.supervision.process_id import ProcessId

LOCK_TRIES = 20
LOCK_PAUSE_SECONDS = 0.05
"""Whoever only looks holds the lock for a moment, too."""


class AlreadyUp(DpnError):
    """The node's processes are looked after already."""


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ProcessState(_Said):
    """A process that is wanted. `restarts`: how often it was started again; `ended`: how, the last time."""

    name: str
    state: Literal["starting", "ready", "stopping", "down"]
    since: datetime
    process: ProcessId | None = None
    restarts: int = 0
    ended: str = ""
    log: Path | None = None


class JobState(_Said):
    """A job of cron's. `failed`: its last run did."""

    name: str
    due: datetime
    process: ProcessId | None = None
    started: datetime | None = None
    ended: str = ""
    failed: bool = False
    log: Path | None = None


class NodeState(_Said):
    """All of it. `state` is `down` once its holder has stopped everything in order."""

    node: str
    state: Literal["up", "stopping", "down"]
    since: datetime
    supervisor: ProcessId
    processes: tuple[ProcessState, ...] = ()
    jobs: tuple[JobState, ...] = ()

    @property
    def well(self) -> bool:
        """Whether everything that should run does, and each job's last run was good."""
        processes = all(one.state == "ready" for one in self.processes)
        return self.state == "up" and processes and not any(job.failed for job in self.jobs)

    def left(self) -> list[ProcessId]:
        """The processes that it names."""
        every = [one.process for one in self.processes] + [job.process for job in self.jobs]
        return [process for process in every if process is not None]


class StateFolder:
    """See the module's docstring."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and holds its lock until the block ends or the process does, however.

        Raises AlreadyUp if another process holds it, Misconfigured where nothing can be written.
        """
        self.make()
        lock = os.open(self._lock, os.O_RDWR)
        try:
            for _ in range(LOCK_TRIES):
                if _locked(lock):
                    break
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                raise AlreadyUp(f"the node is up already on this machine ({self.path}): dpn_node status shows it")
            yield
        finally:
            os.close(lock)

    def make(self) -> None:
        """Makes the folder, if need be. Raises Misconfigured."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.touch(mode=0o600)
        except OSError as error:
            raise Misconfigured(
                f"{self.path}: {error.strerror}: name a folder in processes.directory that this user may write"
            ) from error

    def is_held(self) -> bool:
        """Whether somebody holds the lock now."""
        try:
            lock = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Misconfigured(f"{self._lock}: {error.strerror}: ask as the user that runs the node") from error
        try:
            return not _locked(lock)
        finally:
            os.close(lock)

    def write(self, state: NodeState) -> None:
        """Replaces what was said before. Raises OSError."""
        with replace_file(self._state, permissions=0o600) as file:
            file.write(state.model_dump_json(indent=1).encode())

    def read(self) -> NodeState | None:
        """What was said last; None if that is nothing, or no longer readable."""
        try:
            return NodeState.model_validate_json(self._state.read_bytes())
        except (OSError, ValidationError):
            return None

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _state(self) -> Path:
        return self.path / "state.json"


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
