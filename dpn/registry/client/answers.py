"""What a peer's answer means: a value, or one of the ways to fail.

| answer | raised |
| --- | --- |
| 5xx, 408, 425, 429, a web page, not JSON, a status that is no answer | PeerUnavailable |
| 400, 403, 404, 409 and other refusals | PeerRefused |

A web page is a proxy's answer, whatever its status: a registry that is being restarted must not look like one that
has forgotten a record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from dpn.clock import Clock
from dpn.errors import PeerRefused, PeerUnavailable
from dpn.registry import strict_json
from dpn.text import replaced

MAX_RETRY_AFTER_SECONDS = 86_400.0
MAX_MESSAGE_LENGTH = 500
ASK_AGAIN = frozenset({408, 425, 429})


class NoAnswer(PeerUnavailable):
    """The peer cannot be reached or does not answer in time: the next request would fare no better."""


@dataclass(frozen=True)
class Received:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def nonsense(peer: str, reason: str) -> PeerUnavailable:
    """What to raise for an answer that the peer's registry would not give."""
    return PeerUnavailable(f"peer:{peer}", reason)


def value_of(peer: str, answer: Received, clock: Clock) -> Any:
    """The JSON in a good answer. A 401 is for the caller, who knows what was sent."""
    if answer.status >= 500 or answer.status in ASK_AGAIN:
        seconds = _retry_after(answer.headers.get("retry-after"), clock)
        raise PeerUnavailable(f"peer:{peer}", f"HTTP {answer.status}", seconds)
    if "html" in answer.headers.get("content-type", "").lower():
        raise nonsense(peer, f"HTTP {answer.status} with a web page: is a proxy answering for it?")
    if 400 <= answer.status < 500:
        raise PeerRefused(peer, answer.status, reason_in(answer.body))
    if answer.status not in (200, 201):
        raise nonsense(peer, f"HTTP {answer.status}, which is no answer to this")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise nonsense(peer, "an answer in an encoding that was not asked for")
    try:
        return strict_json.parse(answer.body)
    except strict_json.BrokenJson as error:
        raise nonsense(peer, f"an answer that is {error}") from error


def excerpt(text: str) -> str:
    """The beginning of what a stranger wrote, fit for a log."""
    return replaced(text[:MAX_MESSAGE_LENGTH], " ").strip()


def http_date(text: str | None) -> datetime | None:
    """The date in a header (RFC 9110 §5.6.7), None where it is none that any clock shows."""
    try:
        date = parsedate_to_datetime(text or "")
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _retry_after(text: str | None, clock: Clock) -> float | None:
    """Seconds until the peer wants to be asked again, given in seconds or as a date (RFC 9110 §10.2.3)."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        date = http_date(text)
        if date is None:
            return None
        seconds = (date - clock.now()).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def reason_in(body: bytes) -> str:
    """What the peer says of its refusal."""
    try:
        value = strict_json.parse(body)
    except strict_json.BrokenJson:
        return excerpt(body.decode("utf-8", "replace")) or "(no reason given)"
    errors = value.get("errors") if isinstance(value, dict) else None
    return excerpt("; ".join(str(error) for error in errors[:10]) if isinstance(errors, list) else str(value))
