"""Hears which processes are ready: they say so to the socket that NOTIFY_SOCKET names, as to systemd's."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Iterator

CREDENTIALS = struct.Struct("iII")
"""pid, uid, gid: what the kernel says of the sender, unix(7)."""
MAX_MESSAGE_BYTES = 4096


class ReadySocket:
    """sd_notify(3) from the other side. A name in no folder: it is gone with us, and long paths do not matter."""

    def __init__(self) -> None:
        name = f"dpn-node-{os.getpid()}-{secrets.token_hex(8)}"
        self.address = f"@{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{name}")

    def fileno(self) -> int:
        return self._socket.fileno()

    def heard(self) -> Iterator[tuple[int, str]]:
        """What was said since the last time, a line each, with the pid of the process that said it."""
        while True:
            try:
                message, ancillary, _, _ = self._socket.recvmsg(
                    MAX_MESSAGE_BYTES, socket.CMSG_SPACE(CREDENTIALS.size)
                )
            except BlockingIOError:
                return
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, _, _ = CREDENTIALS.unpack_from(data)
                    yield from ((pid, line) for line in message.decode(errors="replace").splitlines())

    def close(self) -> None:
        self._socket.close()
