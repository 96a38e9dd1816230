"""Tells systemd, or `dpn_node`, that a process is ready or stopping (`Type=notify`); else it does nothing."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

PATIENCE_SECONDS = 5.0


def notify_systemd(state: str) -> None:
    """Sends `state`, e.g. `READY=1`, to the socket that NOTIFY_SOCKET names (sd_notify(3)).

    A socket that is gone, or full for `PATIENCE_SECONDS`, stops nothing.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.settimeout(PATIENCE_SECONDS)
        notify.connect(address)
        notify.send(state.encode())
