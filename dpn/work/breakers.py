"""A breaker for each outside service: after some failures in a row it is left alone for a while, longer each time.

All workers share what is known, in the database and by its clock: one worker's discovery spares the others their
time-outs.
While a breaker is open, work that needs the service waits; it is never counted against an item.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update

from dpn.clock import Clock
from dpn.database import Sessions, insert_missing, reading
from dpn.errors import Interrupted, ServiceUnavailable
from dpn.local_causes import local_cause
from dpn.work.notes import printable
from models.work import ServiceHealth

MAX_ERROR_CHARACTERS = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BreakerPolicy:
    """Opens after `failures` in a row; stays open `first_seconds`, doubling up to `max_seconds`."""

    failures: int
    first_seconds: float
    max_seconds: float

    def open_seconds(self, failures: int, jitter: float) -> float:
        """How long to leave the service alone after so many failures in a row; 0 while there are too few."""
        beyond = failures - self.failures
        if beyond < 0:
            return 0.0
        return min(self.max_seconds, self.first_seconds * 2.0 ** min(beyond, 60)) * (0.75 + jitter / 4)

    def wait_seconds(self, failures: int, jitter: float) -> float:
        """How long an item shall wait that met the failure: at least the first period."""
        return max(self.first_seconds * (0.5 + jitter / 2), self.open_seconds(failures, jitter))


class Breakers:
    """The breakers of a node. Thread-safe; every call is one or two short transactions."""

    def __init__(
        self, sessions: Sessions, policy: BreakerPolicy, *, clock: Clock, jitter: Callable[[], float]
    ) -> None:
        self._sessions = sessions
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    @contextmanager
    def guard(self, service: str) -> Iterator[None]:
        """Wraps a call to `service`. Raises ServiceUnavailable at once while its breaker is open.

        A ServiceUnavailable that the call raises for this service counts as a failure, unless others opened the
        breaker meanwhile: what they found out need not be found again. Being stopped, and this machine's own
        trouble, say nothing of the service; any other end shows that it answers. The error that leaves carries how
        long to wait.
        """
        health, open_seconds = self._read(service)
        if health is not None and open_seconds > 0:
            reason = f"left alone after {health.failures} failures in a row, the last: {health.last_error}"
            raise ServiceUnavailable(service, reason, open_seconds)
        try:
            yield
        except ServiceUnavailable as error:
            if error.service == service:
                error.retry_after_seconds = self._count_failure(error)
            raise
        except Interrupted:
            raise
        except Exception as error:
            cause = local_cause(error)
            if cause is None or cause.is_store:
                self._forget_failures(service, health)
            raise
        else:
            self._forget_failures(service, health)

    def _read(self, service: str) -> tuple[ServiceHealth | None, float]:
        """What is known of the service, and for how many seconds it is still left alone."""
        statement = select(ServiceHealth, self._clock.in_database()).where(ServiceHealth.service == service)
        with reading(self._sessions) as session:
            found = session.execute(statement).one_or_none()
        return (None, 0.0) if found is None else (found[0], self._seconds_left(found[0], found[1]))

    def _seconds_left(self, health: ServiceHealth, now: datetime) -> float:
        """A time beyond the longest that a breaker stays open is not believed: a wrong clock set it."""
        if health.open_until is None:
            return 0.0
        seconds = (health.open_until - now).total_seconds()
        if seconds > self._policy.max_seconds:
            _log.warning("the breaker of %s would be open for %.0f s: was a clock wrong?", health.service, seconds)
            return 0.0
        return seconds

    def _count_failure(self, error: ServiceUnavailable) -> float:
        """Records the failure; returns how long whoever met it shall wait."""
        jitter = self._jitter()
        with self._sessions.begin() as session:
            insert_missing(session, ServiceHealth, [{"service": error.service, "failures": 0, "last_error": ""}])
            health = session.get_one(ServiceHealth, error.service, with_for_update=True)
            now = session.execute(select(self._clock.in_database())).scalar_one()
            seconds_left = self._seconds_left(health, now)
            if seconds_left > 0:
                return seconds_left
            health.failures += 1
            health.failed_at = now
            health.last_error = printable(error.reason, MAX_ERROR_CHARACTERS)
            open_seconds = self._policy.open_seconds(health.failures, jitter)
            if error.retry_after_seconds is not None:
                # The service may ask for patience, not for eternity.
                open_seconds = max(open_seconds, min(error.retry_after_seconds, self._policy.max_seconds))
            if open_seconds:
                health.open_until = now + timedelta(seconds=open_seconds)
            return max(open_seconds, self._policy.wait_seconds(health.failures, jitter))

    def _forget_failures(self, service: str, health: ServiceHealth | None) -> None:
        if health is None or health.failures == 0:
            return
        with self._sessions.begin() as session:
            session.execute(
                update(ServiceHealth)
                .where(ServiceHealth.service == service)
                .values(failures=0, open_until=None, last_error="")
            )
