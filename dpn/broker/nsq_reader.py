"""A pynsq reader that is ready for messages exactly while its worker has a free slot, and always finds back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import nsq

LOOKUP_EVERY_SECONDS = 5
CONNECTING_SECONDS = 10.0
"""How long a connection may take until nsqd has accepted it; then it is given up for a new one."""
REPEAT_SECONDS = 60.0


class SlotReader(nsq.Reader):  # type: ignore[misc]
    """Ready for one message at a time from each nsqd while the worker has a free slot, for none otherwise.

    pynsq shares readiness out as if a message were held while its work runs. Ours are answered at once, and its
    sharing would leave a reader unready for good after the first message that brought no work.
    """

    def __init__(
        self,
        topic: str,
        channel: str,
        handle: Callable[[Any], None],
        *,
        nsqd_tcp_addresses: Sequence[str],
        nsqlookupd_http_addresses: Sequence[str],
        client_name: str,
    ) -> None:
        self._ready = False
        self._closed = False
        self._connecting: dict[str, tuple[Any, float]] = {}
        super().__init__(
            topic=topic,
            channel=channel,
            message_handler=handle,
            nsqd_tcp_addresses=list(nsqd_tcp_addresses),
            lookupd_http_addresses=list(nsqlookupd_http_addresses),
            lookupd_poll_interval=LOOKUP_EVERY_SECONDS,
            max_tries=0,
            user_agent=client_name,
        )
        self.max_in_flight = 0  # pynsq's own sharing of readiness is off for good

    def set_ready(self, ready: bool) -> None:
        """Whether nsqd may send a message."""
        self._ready = ready
        for connection in list(self.conns.values()):
            self._tell(connection)

    def connect_to_given(self) -> None:
        """Tries every nsqd of the settings that is not connected."""
        for address in self.nsqd_tcp_addresses:
            host, _, port = address.rpartition(":")
            self.connect_to_nsqd(host, int(port))

    def close(self) -> None:
        """Ends all connections for good; what was not answered goes to another after nsqd's time-out."""
        self._closed = True
        if self.redist_periodic is not None:  # else it was closed before it began
            super().close()

    # -- what pynsq calls ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        if not self._closed:
            super()._run()

    def connect_to_nsqd(self, host: str, port: int) -> Any:
        """Connects unless that is done or under way. Without pynsq's own throttle: who calls takes his time."""
        key = f"{host}:{port}"
        connection, since = self._connecting.get(key, (None, 0.0))
        if self._closed or key in self.conns:
            return None
        if connection is not None and not connection.closed():
            if time.monotonic() - since < CONNECTING_SECONDS:
                return None
            connection.close()
        self.connection_attempts.pop(key, None)
        connection = super().connect_to_nsqd(host, port)
        self._connecting[key] = connection, time.monotonic()
        return connection

    def _on_connection_ready(self, conn: Any, **kwargs: Any) -> None:
        super()._on_connection_ready(conn, **kwargs)
        if self.conns.get(conn.id) is conn:  # else there was one already, and this one has just been closed
            self._tell(conn)

    def _tell(self, connection: Any) -> None:
        connection.send_rdy(1 if self._ready and not self._closed else 0)


class _OnceAMinute(logging.Filter):
    """Lets the same message pass once in a minute: an nsqd that is down is tried every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, message = time.monotonic(), record.getMessage()
        if now - self._passed.get(message, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._passed = {old: at for old, at in self._passed.items() if now - at < REPEAT_SECONDS}
        self._passed[message] = now
        return True


def quieten_pynsq() -> None:
    """Lost connections are part of life, and pynsq finds its way back: one warning a minute, no stack traces."""
    reader = logging.getLogger("nsq.reader")
    if not any(isinstance(known, _OnceAMinute) for known in reader.filters):
        reader.addFilter(_OnceAMinute())
    for name, level in (
        ("nsq.reader", logging.WARNING),
        ("nsq.client", logging.CRITICAL),
        ("nsq.conn", logging.CRITICAL),
        ("tornado.application", logging.CRITICAL),  # "Exception in callback" at every refused connection
    ):
        logging.getLogger(name).setLevel(level)
