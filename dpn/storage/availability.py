"""Whether an object can be read now, told from what a store says of it; and what asking for it came to. Pure.

Sources: Amazon S3 API, HeadObject (`x-amz-restore`, `x-amz-archive-status`, `x-amz-storage-class`) and
RestoreObject; Amazon S3 User Guide, "Restoring an archived object".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from dpn.storage.settings import COLD_CLASSES, Tier
from dpn.storage.stored_object import StoredObject

INSTANT_CLASSES = frozenset(
    {"STANDARD", "STANDARD_IA", "ONEZONE_IA", "REDUCED_REDUNDANCY", "GLACIER_IR", "EXPRESS_ONEZONE"}
)
"""Storage classes that can always be read at once."""
TIERED_CLASS = "INTELLIGENT_TIERING"
DEEP = frozenset({"DEEP_ARCHIVE", "DEEP_ARCHIVE_ACCESS"})
"""Classes and access tiers that know no Expedited restore."""

MAX_HEADER = 200
_ONGOING = re.compile(r'(?:^|,)\s*ongoing-request\s*=\s*"(true|false)"\s*(?=,|\Z)')
_EXPIRY = re.compile(r'(?:^|,)\s*expiry-date\s*=\s*"([^"]*)"\s*(?=,|\Z)')
_DATE = re.compile(r"[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT\Z", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Availability:
    """Whether an object can be read, at the moment when the store was asked."""

    state: Literal["available", "cold", "restoring", "missing"]
    why: str
    """What the store said, in words for a log."""
    until: datetime | None = None
    """When the readable copy goes again; None if it stays, or nobody says."""
    storage_class: str | None = None
    stored: StoredObject | None = None
    """What was asked: its size, and its version to read; None if it is missing."""


@dataclass(frozen=True)
class RestoreRequested:
    """What asking a store to make an object readable came to."""

    outcome: Literal["accepted", "faster", "under-way", "already-available", "no-capacity", "refused"]
    """accepted: it begins; look again in hours. faster: a restore under way was sped up. under-way: one was
    asked for before, and goes on. already-available: read it now (its time is extended where it has one).
    no-capacity: nobody has an Expedited restore to give now; ask again later, or for a slower one. refused: this
    class cannot be restored that way, and asking again is of no use."""
    why: str
    storage_class: str | None = None
    until: datetime | None = None
    """Until when it can be read, if it is available and that is known."""
    asked: bool = False
    """Whether a request for a restore went out that may be billed."""


@dataclass(frozen=True)
class RestoreHeader:
    """What `x-amz-restore` says. `readable` is false for an expiry date that cannot be read."""

    ongoing: bool
    expires_at: datetime | None = None
    readable: bool = True


def availability_of(stored: StoredObject, now: datetime) -> Availability:
    """Decides from what a HEAD said. What makes no sense counts as not said: asking for a restore is harmless."""
    storage_class, restore = stored.storage_class, parse_restore(stored.restore)

    def answer(
        state: Literal["available", "cold", "restoring"], why: str, until: datetime | None = None
    ) -> Availability:
        return Availability(state, f"{storage_class}: {why}", until, storage_class, stored)

    if storage_class in INSTANT_CLASSES:
        return answer("available", "read at once")
    if restore and restore.ongoing:
        return answer("restoring", "a restore is under way")
    if stored.archive_status:
        return answer("cold", f"in its {_printable(stored.archive_status)} tier")
    if storage_class not in COLD_CLASSES:
        return answer("available", "not archived")
    if restore is None:
        said = f", {_printable(stored.restore)} makes no sense" if stored.restore else ""
        return answer("cold", f"not restored{said}")
    if not restore.readable:
        return answer("cold", f"restored until nobody knows when ({_printable(stored.restore or '')})")
    if restore.expires_at is None:
        return answer("available", "restored for good")
    if restore.expires_at <= now:
        return answer("cold", f"restored until {restore.expires_at:%Y-%m-%d %H:%M} UTC, which is over")
    return answer("available", f"restored until {restore.expires_at:%Y-%m-%d %H:%M} UTC", restore.expires_at)


def parse_restore(header: str | None) -> RestoreHeader | None:
    """What `x-amz-restore` says; None if it is missing, too long, or says nothing about `ongoing-request`."""
    if header is None or len(header) > MAX_HEADER:
        return None
    ongoing = _ONGOING.search(header)
    if ongoing is None:
        return None
    if ongoing[1] == "true":
        return RestoreHeader(ongoing=True)
    expiry = _EXPIRY.search(header)
    if expiry is None:
        return RestoreHeader(ongoing=False, readable="expiry-date" not in header)
    expires_at = _parse_date(expiry[1])
    return RestoreHeader(ongoing=False, expires_at=expires_at, readable=expires_at is not None)


def refused_beforehand(availability: Availability, tier: Tier) -> str | None:
    """Why no store would take this request, if so."""
    stored = availability.stored
    where = {availability.storage_class, stored.archive_status if stored else None}
    if tier == "Expedited" and where & DEEP:
        return f"{availability.storage_class} knows no Expedited restore: ask for Standard or Bulk"
    return None


def needs_no_request(availability: Availability, days: int, now: datetime) -> bool:
    """Whether the object stays readable for `days` without our doing."""
    if availability.state != "available":
        return False
    if availability.until is None:
        # Of a class that we do not know only the store can tell whether there is anything to restore.
        return availability.storage_class in INSTANT_CLASSES | COLD_CLASSES | {TIERED_CLASS}
    return availability.until >= now + timedelta(days=days)


def _parse_date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110 §5.6.7, the form without a zone's name that servers must send)."""
    found = _DATE.match(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    try:
        return datetime(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _printable(text: str) -> str:
    return ascii(text[:MAX_HEADER])
