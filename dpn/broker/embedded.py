"""No broker process: workers look into the database every `poll_seconds`, earlier when something changed there.

On SQLite a worker sees that another process wrote by SQLite's own change counter, at next to no cost; on
PostgreSQL it listens for a notification. Either way it is only told to look.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from dpn.broker import BrokerUnavailable, Offer

NOTIFICATION_CHANNEL = "dpn_work"
LOOK_FOR_CHANGES_SECONDS = 0.1
LOOK_FOR_STOP_SECONDS = 0.25
RECONNECT_SECONDS = 1.0

log = logging.getLogger(__name__)


class EmbeddedBroker:
    """See the module's docstring."""

    def __init__(self, engine: Engine, *, poll_seconds: float) -> None:
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._sweep_now: Callable[[], None] = lambda: None

    def publish(self, queue: str, *item_ids: int) -> None:
        if self._engine.dialect.name == "postgresql":
            try:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    statement = text("SELECT pg_notify(:channel, :queue)")
                    connection.execute(statement, {"channel": NOTIFICATION_CHANNEL, "queue": queue})
            except SQLAlchemyError as error:
                raise BrokerUnavailable(f"the database took no notification: {error}") from error
        self._sweep_now()

    def waiting(self, queue: str) -> int:
        """Nothing waits: a notification that nobody hears is gone, and costs nothing."""
        return 0

    async def start(self, queues: Sequence[str], offer: Offer, sweep_now: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._sweep_now = lambda: None if loop.is_closed() else _ignore(loop.call_soon_threadsafe(sweep_now))
        watch = self._watch_sqlite if self._engine.dialect.name == "sqlite" else self._watch_postgresql
        self._watcher = threading.Thread(target=self._keep_watching, args=(watch,), name="wakeups", daemon=True)
        self._watcher.start()
        sweep_now()

    def set_free_slots(self, slots: int) -> None:
        """Nothing is pushed to a worker here: it looks when it has room."""

    async def stop(self) -> None:
        self._stopping.set()
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.join)

    def _keep_watching(self, watch: Callable[[], None]) -> None:
        """A database that goes away costs the early wake-ups only: polling goes on, and watching comes back."""
        while not self._stopping.is_set():
            try:
                watch()
            except Exception as error:  # noqa: BLE001  (the driver's own errors, too)
                log.warning("not listening for changes in the database: %s", error)
                self._sweep_now()
                self._stopping.wait(min(self._poll_seconds, RECONNECT_SECONDS))

    def _watch_sqlite(self) -> None:
        connection = self._engine.raw_connection()
        try:
            seen = None
            waited = 0.0
            while not self._stopping.wait(LOOK_FOR_CHANGES_SECONDS):
                waited += LOOK_FOR_CHANGES_SECONDS
                (version,) = connection.cursor().execute("PRAGMA data_version").fetchone()
                if version != seen or waited >= self._poll_seconds:
                    seen, waited = version, 0.0
                    self._sweep_now()
        finally:
            connection.close()

    def _watch_postgresql(self) -> None:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"LISTEN {NOTIFICATION_CHANNEL}"))
            while not self._stopping.is_set():
                self._sweep_now()
                self._wait_for_notification(connection)

    def _wait_for_notification(self, connection: Connection) -> None:
        """Returns at a notification, after `poll_seconds`, or when told to stop."""
        driver = connection.connection.driver_connection
        if driver is None:
            raise OSError("the connection that listens for notifications is gone")
        waited = 0.0
        while waited < self._poll_seconds and not self._stopping.is_set():
            patience = min(LOOK_FOR_STOP_SECONDS, self._poll_seconds - waited)
            if any(True for _ in driver.notifies(timeout=patience, stop_after=1)):
                return
            waited += patience


def _ignore(_: object) -> None:
    return None
