"""Loopback ports: free ones, and who listens on them."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 10_000
HIGHEST = 32_000
ATTEMPTS = 500


def free_ports(count: int) -> list[int]:
    """`count` different ports on which a server could listen now.

    They lie below those that the kernel gives to outgoing connections, so that a server that dies finds its port
    free when it comes back. Another program may still be faster: be ready to ask again.
    """
    ports: list[int] = []
    for _ in range(ATTEMPTS):
        if len(ports) == count:
            return ports
        port = random.randrange(LOWEST, max(_first_ephemeral(), LOWEST + 1000))  # noqa: S311  (no secret)
        if port not in ports and is_free(port):
            ports.append(port)
    raise OSError(f"{ATTEMPTS} ports tried on {LOOPBACK}, not {count} of them are free")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def answers(port: int, *, timeout_seconds: float = 1.0) -> bool:
    """Whether somebody takes connections on `port`."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_seconds):
            return True
    except OSError:
        return False


def listens(pid: int, port: int) -> bool:
    """Whether it is `pid` that listens on `port`, and not a stranger that was faster."""
    sockets = _listening_sockets(port)
    descriptors = Path(f"/proc/{pid}/fd")
    try:
        return any(_target(entry) in sockets for entry in descriptors.iterdir())
    except PermissionError:
        return bool(sockets)  # a process may hide its descriptors from its own user: that somebody listens must do
    except OSError:
        return False  # the process has just ended


def _first_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return HIGHEST


def _listening_sockets(port: int) -> set[str]:
    listening = "0A"  # TCP_LISTEN, proc(5)
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in lines]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == listening and row[1].endswith(f":{port:04X}")}


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""
