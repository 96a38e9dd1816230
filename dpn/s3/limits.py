"""How often a call is tried, and what a server's answer may cost us."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Retries:
    """How often a call is tried while the store is overloaded or unreachable, and how long to wait between.

    The wait before try n + 1 is drawn evenly from 0 to `first_seconds` doubled n - 1 times ("full jitter"), or is
    what the store asks for (Retry-After), never more than `max_seconds`. A longer outage is for the runner to
    wait out.
    """

    attempts: int = 5
    first_seconds: float = 0.5
    max_seconds: float = 10.0
    random: random.Random = field(default_factory=random.SystemRandom)

    def delay_seconds(self, failed: int, retry_after_seconds: float | None) -> float:
        """How long to wait after `failed` tries."""
        drawn = self.random.uniform(0, min(self.max_seconds, self.first_seconds * 2 ** (failed - 1)))
        return min(self.max_seconds, max(drawn, retry_after_seconds or 0.0))


@dataclass
class Patience:
    """How long one object's bytes are waited for that come in several answers, since each breaks off."""

    retries: Retries
    monotonic: Callable[[], float]
    until: float
    failed: int = 0
    furthest: int = -1

    def wait_seconds(self, position: int, error: Exception) -> float:
        """How long to wait before going on from `position`, where `error` broke it off.

        Raises `error` once no more bytes have come in as many tries as a call has, or in too much time.
        """
        self.failed = 1 if position > self.furthest else self.failed + 1
        self.furthest = max(position, self.furthest)
        if self.failed >= self.retries.attempts or self.monotonic() > self.until:
            raise error
        return self.retries.delay_seconds(self.failed, getattr(error, "retry_after_seconds", None))


@dataclass(frozen=True)
class AnswerLimits:
    """What one answer may have and take. More is no S3 server's doing: the call ends with StoreUnavailable."""

    answer_bytes: int = 4 * 1024 * 1024
    """Of headers and XML: a page of a thousand keys of 1,024 bytes, each escaped, has some 3.5 MiB."""
    answer_marks: int = 100_000
    """Of '<' and '=' in it: each element or attribute takes far more memory than it has bytes. A page of a
    thousand uploads, the largest kind, has 30,000."""
    answer_seconds: float = 600.0
    """From the request's end to the answer's: AWS says that completing an upload takes several minutes."""
    slowest_bytes_a_second: int = 16 * 1024
    """Of a body, sent or received, on average. Four threads at this rate are half a megabit."""
    pages_without_news: int = 100
    """Pages of a listing in a row that may be empty, or go no further than those before. Some stores answer with
    a few such where much was deleted."""

    visible_seconds: float = 30.0
    """How long a new object may take to be shown. Some stores show it only once their index has it."""

    def seconds(self, body_bytes: int) -> float:
        """How long a request may take whose body, one way or the other, has so many bytes."""
        return self.answer_seconds + body_bytes / self.slowest_bytes_a_second
