"""Says for how long this process has seen without a gap that the database answers.

Only what was absent all that while was really absent: after an outage of the database, or when all machines start
at once, every other worker looks as if it had been gone for long.
"""

from __future__ import annotations

from dpn.clock import Clock


class Witness:
    """Tell it of every look; a look that failed, or that came too late, begins the count anew."""

    def __init__(self, clock: Clock, *, longest_gap_seconds: float) -> None:
        self._clock = clock
        self._longest_gap_seconds = longest_gap_seconds
        self._since: float | None = None
        self._last = 0.0

    def saw(self) -> float:
        """The database answered just now; the seconds for which it has done so without a gap."""
        now = self._clock.monotonic()
        if self._since is None or now - self._last > self._longest_gap_seconds:
            self._since = now
        self._last = now
        return now - self._since

    def was_blind(self) -> None:
        """The database did not answer."""
        self._since = None
