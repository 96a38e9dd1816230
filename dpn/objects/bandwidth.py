"""How fast a root may be used at a moment, from a rate or a timetable as rclone writes them. Pure."""

from __future__ import annotations

from datetime import datetime

from dpn.objects.settings import SLOT

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
FACTORS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def bytes_per_second(bandwidth: str | None, local: datetime) -> int | None:
    """The limit at a moment, in the operator's own time; None without one.

    `bandwidth` has passed the settings. A slot without a day is of every day. Before a week's first slot, the last
    one of the week before goes on.
    """
    if bandwidth is None:
        return None
    if "," not in bandwidth:
        return _rate(bandwidth)
    slots = sorted(slot for text in bandwidth.split() for slot in _slots(text))
    now = local.weekday() * MINUTES_A_DAY + local.hour * 60 + local.minute
    begun = [rate for minute, rate in slots if minute <= now]
    return _rate(begun[-1] if begun else slots[-1][1])


def _slots(text: str) -> list[tuple[int, str]]:
    """The minute of the week at which each begins, and its rate."""
    found = SLOT.fullmatch(text)
    assert found is not None  # noqa: S101  (the settings hold this)
    days = [DAYS.index(found[1].lower())] if found[1] else range(len(DAYS))
    return [(day * MINUTES_A_DAY + int(found[2]) * 60 + int(found[3]), found[4]) for day in days]


def _rate(text: str) -> int | None:
    """rclone counts in KiB where nothing else is said, and takes 0 for no limit."""
    if text.lower() == "off":
        return None
    unit = text[-1].lower()
    number, factor = (text[:-1], FACTORS[unit]) if unit in FACTORS else (text, FACTORS["k"])
    return int(float(number) * factor) or None
