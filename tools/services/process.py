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

STOP_SECONDS = 15.0
"""How long a process may take to stop before it is killed."""


@dataclass(frozen=True)
class Process:
    """One process, for good: a pid may be used again, a pid with its start time in one boot may not."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has `pid` now; none if there is none, or only its zombie."""
        stat = _stat(pid)
        return None if stat is None else cls(pid, stat.start_ticks, boot_id())

    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self


@dataclass(frozen=True)
class Launch:
    """What to start. `environment` is added to a small one; `keep_open` are descriptors that it inherits."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    user: str | None = None
    keep_open: tuple[int, ...] = ()


def start(launch: Launch, log: Path) -> Process:
    """Starts `launch` in a session of its own, its output appended to `log`. Raises OSError."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment() | dict(launch.environment),
            start_new_session=True,
            user=launch.user,
            group=None if launch.user is None else pwd.getpwnam(launch.user).pw_gid,
            extra_groups=None if launch.user is None else [],
            pass_fds=launch.keep_open,
        )
    child.returncode = 0  # it is meant to outlive this object: no warning about that
    process = Process.of(child.pid)
    return process or Process(child.pid, 0, boot_id())  # gone already: equal to no live process


def stop(process: Process, first: signal.Signals = signal.SIGTERM) -> None:
    """Ends `process` and all that it started; returns when they are gone."""
    family = [process, *_descendants(process)] if process.alive() else []
    for member, patience in [(member, STOP_SECONDS if member is process else 1.0) for member in family]:
        _end(member, first, patience)


def environment() -> dict[str, str]:
    """What a server gets of our environment: nothing that could steer it from outside its folder."""
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def boot_id() -> str:
    """Tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class _Stat:
    state: str
    parent: int
    session: int
    start_ticks: int


def _stat(pid: int) -> _Stat | None:
    """The fields of /proc/PID/stat (proc(5)) that we need; the name before them may hold spaces and ')'."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        _reap(pid)
        return None
    return _Stat(state=fields[0], parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # not our child: its own parent reaps it


def _descendants(process: Process) -> list[Process]:
    """All processes below `process` or in the session that it leads."""
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = {process.pid}
    grew = True
    while grew:
        below = {
            pid for pid, stat in stats.items() if stat and (stat.parent in found or stat.session == process.pid)
        }
        grew = not below <= found
        found |= below
    members = [Process.of(pid) for pid in sorted(found - {process.pid})]
    return [member for member in members if member is not None]


def _end(process: Process, first: signal.Signals, patience: float) -> None:
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


def _wait(process: Process, descriptor: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.alive() and (left := deadline - time.monotonic()) > 0:
        select.select([descriptor], [], [], left)
