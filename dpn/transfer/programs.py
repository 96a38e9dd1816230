"""Whether rsync and ssh are new enough: older ones were never tried with what is asked of them here.

A number does not tell which fixes a distribution has put in: that is for the system's updates.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from functools import cache

from dpn.errors import Misconfigured
from dpn.transfer.command import ENVIRONMENT, find_program
from dpn.transfer.settings import RsyncSource, TransferSettings

OLDEST_RSYNC = (3, 2, 7)
OLDEST_SSH = (9, 2)
"""Both are those of Debian 12."""

ANSWER_SECONDS = 10.0

_NUMBER = re.compile(r"(?:rsync\s+version v?|OpenSSH_)(\d+(?:\.\d+)+)")


def require_programs(settings: TransferSettings, sources: Iterable[RsyncSource]) -> None:
    """Raises Misconfigured for an rsync, or where a peer wants it an ssh, that says to be too old.

    One that is missing is told of by what needs it; one that says nothing of itself is not judged.
    """
    _require("transfer.rsync", settings.rsync, "--version", OLDEST_RSYNC)
    if any(source.mode == "ssh" for source in sources):
        _require("transfer.ssh", settings.ssh, "-V", OLDEST_SSH)


def _require(key: str, name: str, option: str, oldest: tuple[int, ...]) -> None:
    path = find_program(name)
    version = None if path is None else _version(path, option)
    if version is not None and version < oldest:
        least = ".".join(map(str, oldest))
        raise Misconfigured(f"{key}: {path} is of version {'.'.join(map(str, version))}: install {least} or newer")


@cache
def _version(path: str, option: str) -> tuple[int, ...] | None:
    try:
        said = subprocess.run(
            [path, option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            timeout=ANSWER_SECONDS,
            check=False,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _NUMBER.search(said)
    return tuple(map(int, found[1].split("."))) if found else None
