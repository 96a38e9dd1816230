"""What ssh-keygen knows of keys: whether a host's is pinned, and the public half of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dpn.errors import Misconfigured
from dpn.transfer.command import ENVIRONMENT, find_program

SSH_PORT = 22
ANSWER_SECONDS = 10.0
MAX_SAID_CHARACTERS = 300


def known_host_name(host: str, port: int | None) -> str:
    """How the host stands in a file of pinned keys."""
    return host if port in (None, SSH_PORT) else f"[{host}]:{port}"


def is_pinned(known_hosts: Path, host: str, port: int | None) -> bool:
    """Whether the file has a key of the host. Raises Misconfigured if ssh-keygen is missing."""
    return _ssh_keygen("-F", known_host_name(host, port), "-f", str(known_hosts)).returncode == 0


def public_half(identity: Path) -> str:
    """The line that lets this private key in where it is entered. Raises Misconfigured if it cannot be used."""
    ended = _ssh_keygen("-y", "-P", "", "-f", str(identity))
    if ended.returncode:
        said = " ".join(ended.stderr.split())[-MAX_SAID_CHARACTERS:]
        raise Misconfigured(f"{identity} is no private key that can be used without a pass phrase: {said}")
    return ended.stdout.strip()


def _ssh_keygen(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = find_program("ssh-keygen")
    if program is None:
        raise Misconfigured("no program ssh-keygen: install openssh-client")
    return subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        timeout=ANSWER_SECONDS,
        check=False,
    )
