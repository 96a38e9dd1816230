"""Walks through a peer's list page by page, missing nothing that stays in it and ending whatever the peer does.

Pages are asked for by number with an order of our own, not by following `next` (real servers lose filters there).
Lists are newest first, so a record that changes meanwhile moves to the front and pushes others back: they show
twice, none is skipped. Where the list has become shorter, the pages that moved up are read again. What changed
after the walk began shows at the next one, whose `after` overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dpn.registry import strict_json

PAGE_SIZE = 100
SPARE_PAGES = 20
"""How many more pages are read than the list should have, for what moves and is read again."""

MAX_PAGES = 100_000


@dataclass(frozen=True)
class RowsOfAPage:
    """One page as the peer sent it."""

    rows: list[Any]
    count: int
    has_next: bool


class EndlessList(Exception):
    """The peer's pages do not make a list."""


def read_page(value: Any) -> RowsOfAPage:
    """The page in a parsed answer. Raises ValueError if it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("results"), list):
        raise ValueError("not a page of a list")
    rows = value["results"]
    envelope = {name: part for name, part in value.items() if name != "results"}
    if isinstance(value, strict_json.AmbiguousObject):
        raise ValueError(f"a page in which {value.repeated[:80]!r} stands twice")
    if flaw := strict_json.flaw_of(envelope):
        raise ValueError(f"a page with {flaw}")
    count = envelope.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError("a page without a count")
    return RowsOfAPage(rows, count, bool(envelope.get("next")))


def walk(fetch: Callable[[int], RowsOfAPage]) -> Iterator[list[Any]]:
    """The rows of page after page, until the end. Raises EndlessList if there is none in sight."""
    number, step, size = 1, 0, PAGE_SIZE
    expected = 1
    before: RowsOfAPage | None = None
    for fetched in range(1, MAX_PAGES):
        page = fetch(number)
        if page.rows and before is not None and step > 0 and page.rows == before.rows:
            raise EndlessList("every page holds the same rows")
        if page.rows:
            yield page.rows
            size = min(size, len(page.rows)) if page.has_next else size
        expected = max(expected, math.ceil(page.count / size))
        if fetched > expected + SPARE_PAGES:
            raise EndlessList(f"more than {fetched} pages of {size} for {page.count} records")
        gone = before.count - page.count if before is not None else 0
        if gone > 0 and number > 1:
            step = -min(number - 1, math.ceil(gone / size))
        elif page.rows and (page.has_next or (number - 1) * size + len(page.rows) < page.count):
            step = 1
        else:
            return
        number, before = number + step, page
    raise EndlessList(f"more than {MAX_PAGES} pages")
