"""Which parts of a partial file a process had written before it died. A claim only: nothing listed here counts
before the part was read again and has the digest that is wanted, or, if none is known, the one that is listed.

A line of JSON for what is fetched, then one for each part. It is not synced: a line that a power cut took costs a
part, a part that it took has another digest.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dpn.identifiers import SHA256_HEX
from dpn.storage.errors import TargetBusy

MAX_BYTES = 4 * 1024 * 1024
"""Twice what 10,000 parts take."""


class Journal:
    """The journal of one partial file; one process has it at a time."""

    def __init__(self, file: BinaryIO, identity: Mapping[str, object]) -> None:
        self._file = file
        first = json.dumps(identity, sort_keys=True)
        lines = self._file.read(MAX_BYTES).decode("ascii", errors="replace").split("\n")
        self.continues = lines[0] == first
        """Whether the partial file beside it is of the same object."""
        # What follows the last line break was cut off while it was written.
        self.claims = _claims(lines[1:-1]) if self.continues else {}
        """The SHA-256 of parts, by their number."""
        if not self.continues:
            self._file.seek(0)
            self._file.truncate()
            self._write(first)
        elif lines[-1]:
            self._file.write(b"\n")

    def add(self, number: int, sha256: str) -> None:
        """Notes that a part was written whole."""
        self._write(json.dumps([number, sha256]))

    def _write(self, line: str) -> None:
        # One write, unbuffered: lines of several threads do not mix.
        self._file.write(f"{line}\n".encode("ascii"))


@contextmanager
def open_journal(path: Path, identity: Mapping[str, object]) -> Iterator[Journal]:
    """The journal at `path`, ours alone. `identity` says what is fetched: of anything else nothing is continued.

    Raises TargetBusy, OSError.
    """
    with _locked(path) as file:
        yield Journal(file, identity)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TargetBusy(
                    f"{path.parent}: another process is retrieving into it: it is tried again"
                ) from error
            # Whoever had it before may have finished and removed it while we opened it.
            if os.fstat(descriptor).st_nlink:
                yield file
                return


def _claims(lines: list[str]) -> dict[int, str]:
    claims: dict[int, str] = {}
    for line in lines:
        try:
            number, sha256 = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        if type(number) is int and isinstance(sha256, str) and SHA256_HEX.match(sha256):
            claims[number] = sha256
    return claims
