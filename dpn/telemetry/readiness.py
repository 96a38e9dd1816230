"""Tells systemd that a service is ready or stopping (`Type=notify`); does nothing outside systemd."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify_systemd(state: str) -> None:
    """Sends `state`, e.g. `READY=1`, to the socket that systemd named (sd_notify(3)).

    A socket that is gone or full stops nothing.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(state.encode(), address)
