"""Keeps the leases of running items alive, and stops the work of those that are lost. How far their stages are is
written with it, a little more often.

If the database cannot be reached for as long as a lease lasts, all work stops: by then another worker may hold it.
That does not wait for the database to answer: one thread asks it, another one watches the clock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import Sessions
from dpn.errors import Interrupted, LeaseLost
from dpn.runtime import THREADS, Runtime, Work
from dpn.telemetry.logs import Log
from dpn.work import progress
from dpn.work.leases import Claim, extend
from dpn.work.progress import StageProgress

EXTENSIONS_PER_LEASE = 3
LOOKS_PER_LEASE = 20
STOP_SECONDS = 5.0
"""How long a stopping worker waits for an extension under way: the database may hang."""


@dataclass
class _Held:
    claim: Claim
    cancellation: Cancellation
    progress: StageProgress
    extended_at: float
    """When the extension that is known to have been granted was asked for, by the monotonic clock."""


class LeaseKeeper:
    """Extends every lease this process holds, all in one statement, three times in a lease's life."""

    def __init__(
        self, sessions: Sessions, *, lease_seconds: float, clock: Clock, log: Log, runtime: Runtime = THREADS
    ) -> None:
        self._sessions = sessions
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._log = log
        self._held: dict[tuple[int, int], _Held] = {}
        self._lock = threading.Lock()
        self._runtime = runtime
        self._stopping = runtime.event()
        self._work: list[Work] = []

    def start(self) -> None:
        """One thread asks the database, another one watches the clock."""
        self._work = [
            self._runtime.start("leases", self._keep),
            self._runtime.start("lease-clock", self._watch),
        ]

    def stop(self) -> None:
        """Stops extending; what is still held runs out by itself."""
        self._stopping.set()
        for work in self._work:
            work.join(STOP_SECONDS)

    def hold(
        self, claim: Claim, cancellation: Cancellation, progress: StageProgress, *, claimed_at: float
    ) -> None:
        """Keeps this lease from now on; `cancellation` is told if it is lost.

        `claimed_at`: the monotonic clock before the claim was asked for, so that it never counts as younger than
        it is.
        """
        with self._lock:
            self._held[claim.item_id, claim.token] = _Held(claim, cancellation, progress, claimed_at)

    def release(self, claim: Claim) -> None:
        """The run has ended: no need to keep its lease."""
        with self._lock:
            self._held.pop((claim.item_id, claim.token), None)

    def claims(self) -> list[Claim]:
        """What is held."""
        with self._lock:
            return [entry.claim for entry in self._held.values()]

    def extend_all(self) -> None:
        """One round: extends what is held in one statement, cancels what is lost."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        asked_at = self._clock.monotonic()
        with self._sessions.begin() as session:
            kept = extend(session, list(held), lease_seconds=self._lease_seconds, clock=self._clock)
        for (item_id, _token), entry in held.items():
            if item_id in kept:
                entry.extended_at = asked_at
            elif self._still_running(entry):
                entry.cancellation.cancel(
                    LeaseLost(f"item {item_id}: another worker holds it, or it was cancelled")
                )
        self._write_progress({key: entry.progress for key, entry in held.items() if key[0] in kept})

    def _write_progress(self, told: dict[tuple[int, int], StageProgress]) -> None:
        """By itself: what cannot be written of one stage must not cost all of them their leases."""
        news = {key: found for key, one in told.items() if (found := one.news()) is not None}
        try:
            with self._sessions.begin() as session:
                progress.write(session, news, clock=self._clock)
        except Exception as error:  # noqa: BLE001  (whatever it was: what is told next may be written)
            self._log.warning("how far stages are could not be written", error=str(error))

    def give_up_expired(self) -> None:
        """One look at the clock: cancels what has not been extended for a whole lease. Nobody may have taken it
        since: then it is put back as if it had not been tried, for the database is no fault of the item's."""
        now = self._clock.monotonic()
        with self._lock:
            expired = [entry for entry in self._held.values() if now - entry.extended_at >= self._lease_seconds]
        for entry in expired:
            item_id = entry.claim.item_id
            entry.cancellation.cancel(Interrupted(f"item {item_id}: the database was away for a whole lease"))

    def _keep(self) -> None:
        longest = self._lease_seconds / EXTENSIONS_PER_LEASE
        rest = min(longest, progress.WRITE_SECONDS)
        extended_at = self._clock.monotonic()
        while not self._stopping.wait(rest):
            # Rather half a rest early than a whole one late.
            if self._clock.monotonic() - extended_at < longest - rest / 2 and not self._is_news():
                continue
            try:
                self.extend_all()
                extended_at = self._clock.monotonic()
            except Exception as error:  # noqa: BLE001  (whatever it was: the next round may work)
                self._log.error("leases could not be extended", error=str(error))

    def _watch(self) -> None:
        while not self._stopping.wait(self._lease_seconds / LOOKS_PER_LEASE):
            self.give_up_expired()

    def _is_news(self) -> bool:
        with self._lock:
            return any(entry.progress.is_news for entry in self._held.values())

    def _still_running(self, entry: _Held) -> bool:
        """A run that ended while we asked is not a lost one."""
        with self._lock:
            return (entry.claim.item_id, entry.claim.token) in self._held
