"""The pages that a peer's lists come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpn.registry import strict_json

PAGE_SIZE = 100
"""The most that real servers give."""

MAX_ROWS = 1000
"""Of a page; some servers give more than was asked for."""


@dataclass(frozen=True)
class RowsOfAPage:
    """One page as the peer sent it."""

    rows: list[Any]
    count: int
    has_next: bool


def read_page(value: Any) -> RowsOfAPage:
    """The page in a parsed answer. Raises ValueError if it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("results"), list):
        raise ValueError("not a page of a list")
    rows = value["results"]
    if len(rows) > MAX_ROWS:
        raise ValueError(f"a page of {len(rows)} rows where {PAGE_SIZE} were asked for")
    envelope = {name: part for name, part in value.items() if name != "results"}
    if isinstance(value, strict_json.AmbiguousObject):
        raise ValueError(f"a page in which {value.repeated[:80]!r} stands twice")
    if flaw := strict_json.flaw_of(envelope):
        raise ValueError(f"a page with {flaw}")
    count = envelope.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError("a page without a count")
    return RowsOfAPage(rows, count, bool(envelope.get("next")))
