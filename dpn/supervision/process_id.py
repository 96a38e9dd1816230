"""Which process is meant, for good: a pid may be used again, a pid with its start time in one boot may not."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """One process of this machine, alive or not."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has `pid` now; None if there is none, or only its zombie."""
        stat = process_stat(pid)
        return None if stat is None else cls(pid, stat.start_ticks, boot_id())

    def alive(self) -> bool:
        """Whether it still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signals it through a descriptor that can mean no other process. False if it has ended.

        Raises PermissionError.
        """
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(descriptor, number)
                    return True
            finally:
                os.close(descriptor)
        return False


@dataclass(frozen=True)
class ProcessStat:
    """What of /proc/PID/stat (proc(5)) tells a process from others."""

    parent: int
    session: int
    start_ticks: int


def process_stat(pid: int) -> ProcessStat | None:
    """None if there is no such process, or only its zombie. The name in the line may hold spaces and ')'."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return ProcessStat(parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def boot_id() -> str:
    """Tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
