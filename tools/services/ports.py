"""Loopback ports: free ones, kept ones, and who listens on them."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 10_000
ATTEMPTS = 200


def free(names: tuple[str, ...]) -> dict[str, int]:
    """A free port for each name, all different.

    They lie below the range from which the kernel takes ports for outgoing connections: a server that is down
    for a moment must find its port free when it comes back. Another program may still be faster than the
    server that is to use the port, so be ready to ask again.
    """
    ports: dict[str, int] = {}
    for _ in range(ATTEMPTS):
        if len(ports) == len(names):
            return ports
        port = random.randrange(LOWEST, max(_first_ephemeral(), LOWEST + 1000))  # noqa: S311
        if port not in ports.values() and is_free(port):
            ports[names[len(ports)]] = port
    raise RuntimeError(f"no free port found on {LOOPBACK} in {ATTEMPTS} attempts")


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
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    return int(text.split()[0])


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
