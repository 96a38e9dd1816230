"""Free ports on the loopback address."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 10_000
HIGHEST = 32_000
ATTEMPTS = 500


def free_ports(count: int, *, choose: random.Random | None = None) -> list[int]:
    """`count` different ports on which a server could listen now.

    They lie below those that the kernel gives to outgoing connections, so that a server that dies finds its port
    free when it comes back. Another program may still be faster: be ready to ask again.
    """
    choose = choose or random.Random()  # noqa: S311  (a port is no secret)
    ports: list[int] = []
    for _ in range(ATTEMPTS):
        if len(ports) == count:
            return ports
        port = choose.randrange(LOWEST, max(_first_ephemeral(), LOWEST + 1000))
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


def _first_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return HIGHEST
