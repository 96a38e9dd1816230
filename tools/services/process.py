"""Starts processes that outlive us and stops exactly those: a recycled pid is never signalled."""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpn.supervision.process_id import ProcessId, boot_id, process_stat

STOP_SECONDS = 15.0
"""How long a process may take to stop before it is killed."""


@dataclass(frozen=True)
class Launch:
    """What to start. `environment` is added to a small one; `keep_open` are descriptors that it inherits; `folder`
    is entered before it becomes `user`."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    user: str | None = None
    keep_open: tuple[int, ...] = ()
    folder: Path = Path("/")


def start(launch: Launch, log: Path) -> ProcessId:
    """Starts `launch` in a session of its own, its output appended to `log`. Raises OSError."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=launch.folder,
            env=environment() | dict(launch.environment),
            start_new_session=True,
            user=launch.user,
            group=None if launch.user is None else pwd.getpwnam(launch.user).pw_gid,
            extra_groups=None if launch.user is None else [],
            pass_fds=launch.keep_open,
        )
    child.returncode = 0  # it is meant to outlive this object: no warning about that
    process = ProcessId.of(child.pid)
    return process or ProcessId(child.pid, 0, boot_id())  # gone already: equal to no live process


def stop(process: ProcessId, first: signal.Signals = signal.SIGTERM) -> None:
    """Ends `process` and all that it started; returns when they are gone."""
    for member, patience in [(member, STOP_SECONDS if member is process else 1.0) for member in family(process)]:
        _end(member, first, patience)


def family(process: ProcessId) -> list[ProcessId]:
    """`process`, if it lives, and all that it started."""
    return [process, *_descendants(process)] if process.alive() else []


def environment() -> dict[str, str]:
    """What a server gets of our environment: nothing that could steer it from outside its folder."""
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _descendants(process: ProcessId) -> list[ProcessId]:
    """All processes below `process` or in the session that it leads."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    stats = {pid: process_stat(pid) for pid in pids}
    found = {process.pid}
    grew = True
    while grew:
        below = {
            pid for pid, stat in stats.items() if stat and (stat.parent in found or stat.session == process.pid)
        }
        grew = not below <= found
        found |= below
    members = [ProcessId.of(pid) for pid in sorted(found - {process.pid})]
    return [member for member in members if member is not None]


def _end(process: ProcessId, first: signal.Signals, patience: float) -> None:
    """Signals `process` through a descriptor that can mean no other one, gently and then not."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        for number, seconds in ((first, patience), (signal.SIGKILL, STOP_SECONDS)):
            if not process.alive():
                return
            signal.pidfd_send_signal(descriptor, number)
            signal.pidfd_send_signal(descriptor, signal.SIGCONT)  # a stopped process hears nothing but this
            _wait(process, descriptor, seconds)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _wait(process: ProcessId, descriptor: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.alive() and (left := deadline - time.monotonic()) > 0:
        select.select([descriptor], [], [], left)
