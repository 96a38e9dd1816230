"""Keeps the leases of running items alive, and stops the work of those that are lost.

If the database cannot be reached for as long as a lease lasts, all work stops: by then another worker may hold it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import LeaseLost
from dpn.telemetry.logs import Log
from dpn.work.leases import Claim, extend

EXTENSIONS_PER_LEASE = 3


@dataclass
class _Held:
    claim: Claim
    cancellation: Cancellation
    extended_at: float


class LeaseKeeper:
    """One thread that extends every lease this process holds, three times in a lease's life."""

    def __init__(self, sessions: Sessions, *, lease_seconds: float, clock: Clock, log: Log) -> None:
        self._sessions = sessions
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._log = log
        self._held: dict[tuple[int, int], _Held] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stops extending; what is still held runs out by itself."""
        self._stopping.set()
        self._thread.join()

    def hold(self, claim: Claim, cancellation: Cancellation) -> None:
        """Keeps this lease from now on; `cancellation` is told if it is lost."""
        with self._lock:
            self._held[claim.item_id, claim.token] = _Held(claim, cancellation, self._clock.monotonic())

    def release(self, claim: Claim) -> None:
        """The run has ended: no need to keep its lease."""
        with self._lock:
            self._held.pop((claim.item_id, claim.token), None)

    def extend_all(self) -> None:
        """One round: extends what is held in one statement, cancels what is lost."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        asked_at = self._clock.monotonic()
        try:
            with self._sessions.begin() as session:
                kept = extend(session, list(held), lease_seconds=self._lease_seconds, clock=self._clock)
        except SQLAlchemyError as error:
            self._log.error("leases could not be extended", error=str(error), items=[item for item, _ in held])
            self._give_up_expired(held)
            return
        for (item_id, _token), entry in held.items():
            if item_id in kept:
                entry.extended_at = asked_at
            elif self._still_running(entry):
                entry.cancellation.cancel(
                    LeaseLost(f"item {item_id}: another worker holds it, or it was cancelled")
                )

    def _keep(self) -> None:
        while not self._stopping.wait(self._lease_seconds / EXTENSIONS_PER_LEASE):
            self.extend_all()

    def _still_running(self, entry: _Held) -> bool:
        """A run that ended while we asked is not a lost one."""
        with self._lock:
            return (entry.claim.item_id, entry.claim.token) in self._held

    def _give_up_expired(self, held: dict[tuple[int, int], _Held]) -> None:
        now = self._clock.monotonic()
        for (item_id, _token), entry in held.items():
            if now - entry.extended_at >= self._lease_seconds:
                entry.cancellation.cancel(LeaseLost(f"item {item_id}: the database was away for a whole lease"))
