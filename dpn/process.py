"""Runs one program as a process group of its own that never outlives the call, whatever happens in it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dpn.errors import LocalTrouble

TICK_SECONDS = 0.2
"""How often `watch` is asked: well under the second in which a cancelled fetch must be over."""

MAX_OUTPUT_BYTES = 8192
"""How much of the output is kept: its end. A peer decides what is in it and how much."""

GROUP_GONE_LOOK_SECONDS = 0.01
GROUP_GONE_LOOKS = 200


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and with which environment."""

    arguments: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended; `output` is the end of what it wrote, both streams together."""

    exit_code: int
    output: str


def run(command: Command, *, keep_open: tuple[int, ...], watch: Callable[[int], None]) -> Ended:
    """Runs `command` to its end. `watch` gets the process group's id five times a second; if it raises, or
    anything else does, the whole group is killed and waited for before the error goes on.

    The program starts in the calling thread, whose end the program may watch for. `keep_open` are descriptors that
    it inherits: a lock on one of them is held until the last process of the group is gone. Raises LocalTrouble if
    it cannot be started.
    """
    try:
        process = subprocess.Popen(  # the group is killed in any case, below: no `with` that would wait for it
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=command.environment,
            cwd="/",
            pass_fds=keep_open,
            start_new_session=True,
        )
    except OSError as error:
        program = command.arguments[0]
        raise LocalTrouble(
            f"{program} cannot be started ({error.strerror}): install it, or look at limits"
        ) from error
    assert process.stdout is not None  # noqa: S101  (asked for above)
    with process.stdout as stdout:
        try:
            output = _follow(process.pid, stdout, watch)
        finally:
            exit_code = _end(process)
    return Ended(exit_code=exit_code, output=output)


def io_bytes(group: int) -> int:
    """Bytes that the processes of the group have read and written so far, as far as the kernel tells."""
    total = 0
    waiting = [group]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        with suppress(OSError, ValueError):
            waiting.extend(int(pid) for pid in (folder / "task" / folder.name / "children").read_text().split())
            lines = (folder / "io").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(("rchar:", "wchar:")))
    return total


def _follow(pid: int, stdout: IO[bytes], watch: Callable[[int], None]) -> str:
    """Reads the output until the program has ended, though it is not reaped yet."""
    os.set_blocking(stdout.fileno(), False)
    tail = bytearray()
    exited = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(exited, selectors.EVENT_READ)
            selector.register(stdout, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(TICK_SECONDS)}
                if stdout in ready and not _read(stdout, tail):
                    selector.unregister(stdout)
                if exited in ready:
                    break
                watch(pid)
        while _read(stdout, tail):
            pass
    finally:
        os.close(exited)
    return tail.decode(errors="replace")


def _read(stdout: IO[bytes], tail: bytearray) -> bool:
    """Takes what there is now; false at the end and where there is nothing yet."""
    try:
        piece = os.read(stdout.fileno(), 65536)
    except BlockingIOError:
        return False
    tail += piece
    del tail[:-MAX_OUTPUT_BYTES]
    return bool(piece)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Kills what is left of the group and reaps its leader."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the leader is not reaped, so this number is still its group's
    exit_code = process.wait()
    for _ in range(GROUP_GONE_LOOKS):
        if not _is_alive(process.pid):
            break
        time.sleep(GROUP_GONE_LOOK_SECONDS)
    return exit_code


def _is_alive(group: int) -> bool:
    """Whether any process of the group still runs; those that only wait to be reaped by init do not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return any(_runs_in(group, folder) for folder in Path("/proc").iterdir() if folder.name.isdigit())


def _runs_in(group: int, folder: Path) -> bool:
    try:
        state, _parent, its_group, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(its_group) == group and state not in "ZX"
