"""Validates a large tar while it is being built, in a second process and so on a second core.

Each of many small files costs as much to be looked at again as to be bagged, and the interpreter does one thing at
a time; of a large file the bytes are hashed three times, which keeps two cores busy only if it is done at the same
time. The other process reads what was written as `validate` does, once the builder has written it; in the end it
is told how large the whole is, and when it was changed last. Only that the bag is valid does it say.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dpn.bags.hash_threads import OnProgress, Progress, default_threads
from dpn.bags.report import Report

FOLLOWED_FROM_FILES = 10_000
FOLLOWED_FROM_BYTES = 256 << 20
"""Less than either is validated by ourselves before the other process has started."""
_TICK_SECONDS = 0.2
_PIPE_BYTES = 64 << 10
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from dpn.bags.building.second_reader_process import main
main(*sys.argv[2:])
"""


class Following:
    """Of one tar, in a `with` block, after which the other process is gone."""

    def __init__(self, path: Path, profile_name: str | None) -> None:
        """`profile_name` of a shipped profile; None: this one is not followed."""
        self._path = path
        self._profile_name = profile_name if default_threads() > 1 else None
        self._begun = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            with self._process:  # closes its pipes and waits for its end
                pass

    @property
    def cores_left(self) -> int:
        """For the builder: the other process, if there may be one, takes half of them."""
        return default_threads() if self._profile_name is None else default_threads() // 2

    def watching(self, told: OnProgress | None) -> OnProgress:
        """The same listener to how much was bagged; once that is much, the tar must be under way."""

        def listen(done_bytes: int, files: int) -> None:
            much = done_bytes >= FOLLOWED_FROM_BYTES or files >= FOLLOWED_FROM_FILES
            if much and not self._begun:
                self._begun = True
                if self._profile_name is not None:
                    self._process = _started(self._path, self._profile_name, default_threads() // 2)
            if told is not None:
                told(done_bytes, files)

        return listen

    def report(self, progress: Progress) -> Report | None:
        """What is to be said of the tar, which is whole now; None if it is for the caller to find out.

        Raises what `progress` was told to end with.
        """
        if self._process is None:
            return None
        whole = self._path.stat()
        _say(self._process, f"{whole.st_size} {whole.st_mtime_ns}".encode())
        report = None
        for line in _lines(self._process, progress):
            heard = json.loads(line)
            if isinstance(heard, dict):
                report = Report.from_json(heard)
            else:
                progress.add(heard[0] - progress.bytes, heard[1] - progress.files)
        progress.tell()
        return report


def _started(path: Path, profile_name: str, threads: int) -> subprocess.Popen[bytes] | None:
    """The other process; what goes wrong in it, it says on our own standard error. None if we may have none."""
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), os.fspath(path), profile_name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError:  # no memory or no permission for one more: we manage without
        return None


def _say(process: subprocess.Popen[bytes], word: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - it was started with one
    with suppress(BrokenPipeError):  # it is gone: nothing will be heard of it either
        os.write(process.stdin.fileno(), word)


def _lines(process: subprocess.Popen[bytes], progress: Progress) -> Iterator[bytes]:
    """The whole lines that the process says from now on. Raises what `progress` was told to end with."""
    assert process.stdout is not None  # noqa: S101 - it was started with one
    rest, piece = b"", b"?"
    while piece:
        progress.tick()
        if select.select([process.stdout], [], [], _TICK_SECONDS)[0]:
            piece = os.read(process.stdout.fileno(), _PIPE_BYTES)
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
