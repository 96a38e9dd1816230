"""At most so many connections, and so many of one address: whoever has waited longest makes room for a new one.

A connection counts from the moment it is accepted, its TLS handshake included, until its socket is closed, so the
process never runs out of files. One whose request is being answered is never ended for another: where all are, the
new one is hung up on.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

import structlog

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

Network = IPv4Network | IPv6Network

SUBSCRIBER_BITS = 64
"""Whoever has one IPv6 address has all that begin with so many bits of it."""


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections a server holds."""

    most: int
    most_per_address: int
    proxies: Collection[Network] = ()
    """Theirs count for `most` alone, and they are believed about who asks (`X-Forwarded-For`)."""


class Connections:
    """Those of one process. Not for more than one thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[int, ClientConnection] = {}
        """By the file descriptors of their sockets."""
        self._idle: dict[ClientConnection, None] = {}
        """Those that ask for nothing at the moment, who has waited longest first."""

    @property
    def full(self) -> bool:
        return len(self._open) >= self._limits.most

    def admit(self, connection: ClientConnection) -> bool:
        """Whether it may stay: then it counts until it is closed."""
        party = connection.party
        theirs = [] if party is None else [one for one in self._open.values() if one.party == party]
        if self.full or (len(theirs) >= self._limits.most_per_address and not self.make_room(theirs)):
            log.warning("a connection was refused: all are busy", client=party, connections=len(self._open))
            return False
        self._open[connection.fileno()] = connection
        self._idle[connection] = None
        return True

    def make_room(self, among: Collection[ClientConnection] | None = None) -> bool:
        """Hangs up on whoever has waited longest: its place is free once that was noticed. False: nobody waits."""
        longest = next((one for one in self._idle if among is None or one in among), None)
        if longest is None:
            return False
        del self._idle[longest]
        log.warning(
            "an idle connection was ended for a new one", client=longest.party, connections=len(self._open)
        )
        with suppress(OSError):  # its client was faster
            longest.shutdown(socket.SHUT_RDWR)
        return True

    def by_descriptor(self, descriptor: int) -> ClientConnection | None:
        return self._open.get(descriptor)

    def note(self, connection: ClientConnection, *, busy: bool) -> None:
        """Whether a request of this connection is being answered."""
        if busy:
            self._idle.pop(connection, None)
        elif self._open.get(connection.fileno()) is connection:
            self._idle.setdefault(connection)

    def forget(self, connection: ClientConnection) -> None:
        if self._open.get(connection.fileno()) is connection:
            del self._open[connection.fileno()]
        self._idle.pop(connection, None)

    def party(self, address: str) -> str | None:
        """Whose a connection from this address is, for counting; None: a proxy's, which brings many."""
        ip = ip_address(address.partition("%")[0])
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if any(ip in network for network in self._limits.proxies):
            return None
        return str(IPv6Network((ip, SUBSCRIBER_BITS), strict=False)) if ip.version == 6 else str(ip)


class ClientConnection(socket.socket):
    """An accepted one, which is forgotten as it is closed."""

    def __init__(self, accepted: socket.socket, party: str | None, connections: Connections) -> None:
        self.party = party
        self._connections = connections
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, protocol, fileno=accepted.detach())

    def close(self) -> None:
        self._connections.forget(self)
        super().close()


class Listener(socket.socket):
    """Accepts no more connections than there may be; what `accept` raises is what asyncio takes for "none now"."""

    def __init__(self, listening: socket.socket, connections: Connections) -> None:
        self._connections = connections
        family, kind, protocol = listening.family, listening.type, listening.proto
        super().__init__(family, kind, protocol, fileno=listening.detach())

    def accept(self) -> tuple[socket.socket, object]:
        if self._connections.full and self._connections.make_room():
            raise BlockingIOError  # there is room as soon as that one's end was noticed
        accepted, address = super().accept()
        connection = ClientConnection(accepted, self._connections.party(address[0]), self._connections)
        if not self._connections.admit(connection):
            connection.close()
            raise ConnectionAbortedError
        return connection, address
