"""The folder that a demo works in: its own alone, emptied at the end unless it is to be kept, nobody else's ever.

A janitor (`tools.demo.janitor`) waits beside the demo: if that is killed, the janitor stops the servers that it
left and does what it would have done with the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tools.network.environment import clean_environment
from tools.network.errors import Unusable
from tools.network.services import FOLDER, stop_below

MARK = "demo.json"
LOCK = "demo.lock"
JANITOR_LOG = "janitor.log"

FINISHED = b"finished\n"
"""What the janitor is told when there is nothing left to do for it."""

_AWKWARD = re.compile(r"[\x00-\x1f\x7f%#?\"'\\$]")
"""Characters that mean something to SQLite's addresses, to rsyncd.conf or to a terminal."""


@dataclass
class Workdir:
    """An open work folder."""

    path: Path
    keep: bool
    """Whether it stays when the demo ends; may be set until then."""
    made: bool
    """Whether the folder itself is the demo's, and goes with the rest."""

    def spare(self, file: Path | None) -> None:
        """If the user's file is to lie in the folder, that is not removed with everything in it."""
        if file is not None and self.path in file.absolute().parents:
            self.made = False

    def mark(self, nodes: Sequence[str]) -> None:
        """Says in the folder what in it is the demo's."""
        (self.path / MARK).write_text(json.dumps({"nodes": list(nodes)}) + "\n", encoding="utf-8")


@contextmanager
def open_workdir(asked_for: Path | None, *, keep: bool) -> Iterator[Workdir]:
    """The folder asked for, or a temporary one, empty and locked. Raises Unusable."""
    workdir, lock = _temporary(keep) if asked_for is None else _named(asked_for, keep)
    try:
        with _janitor(workdir, lock):
            try:
                yield workdir
            finally:
                if not workdir.keep:
                    remove(workdir.path, everything=workdir.made)
    finally:
        lock.close()


def remove(path: Path, *, everything: bool) -> None:
    """Removes what a demo made in `path`, and with `everything` the folder, too. What is not its own stays."""
    if everything:
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        nodes = json.loads((path / MARK).read_text(encoding="utf-8"))["nodes"]
    except FileNotFoundError:
        nodes = []
    for name in (*nodes, FOLDER):
        shutil.rmtree(path / name, ignore_errors=True)
    for name in (MARK, JANITOR_LOG, LOCK):
        (path / name).unlink(missing_ok=True)


def _temporary(keep: bool) -> tuple[Workdir, BinaryIO]:
    path = Path(tempfile.mkdtemp(prefix="dpn-demo-"))
    return Workdir(path, keep, made=True), _locked(path)


def _named(asked_for: Path, keep: bool) -> tuple[Workdir, BinaryIO]:
    path = Path(os.path.abspath(asked_for.expanduser()))  # noqa: PTH100  (links stay as the user wrote them)
    if found := _AWKWARD.search(str(path)):
        raise Unusable(f"--workdir {str(path)!a}: {found.group()!a} cannot stand in its name: choose another")
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        is_ours = (path / MARK).exists()
        strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in (LOCK, JANITOR_LOG))
        if strangers and not is_ours:
            raise Unusable(
                f"--workdir {path}: not empty ({strangers[0]!r}) and no earlier demo's: name another folder"
            )
        lock = _locked(path)
        if is_ours:
            stop_below(path)
            remove(path, everything=False)
    except OSError as error:
        raise Unusable(f"--workdir {path}: {error.strerror}: name a folder that you may write") from error
    return Workdir(path, keep, made), lock


def _locked(path: Path) -> BinaryIO:
    """A lock that this demo holds, and its janitor after it. Raises Unusable if another demo does."""
    lock = (path / LOCK).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Unusable(
            f"--workdir {path}: another demo works there: wait for it, or name another folder"
        ) from None
    return lock


@contextmanager
def _janitor(workdir: Workdir, lock: BinaryIO) -> Iterator[None]:
    """Runs the janitor. It is told when the demo has ended, however, and acts when it hears nothing."""
    options = [] if workdir.keep else ["--remove-all" if workdir.made else "--remove"]
    with (workdir.path / JANITOR_LOG).open("ab") as log:
        process = subprocess.Popen(
            (sys.executable, "-P", "-m", "tools.demo.janitor", str(workdir.path), *options),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env=clean_environment(os.environ),
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
    try:
        yield
    finally:
        process.communicate(FINISHED)  # which minds no janitor that is gone
