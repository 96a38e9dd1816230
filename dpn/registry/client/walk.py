"""Walks through a peer's list and misses nothing that stays in it, whatever comes, changes or goes meanwhile.

Lists are asked for newest first, by our own page numbers and times, never by following `next` (real servers lose
filters there). Each page but the first is asked for by the time at which the page before it ended (`before`): what
comes, goes or moves elsewhere shifts nothing. Only where many records have the same second are pages counted; a
list that has become shorter there is read again from where it can have moved up.

Peers need not do as they are asked. A list that shows another order, or later times than asked for, is counted
through from its start. At the end as many records must have been seen as the peer says there are. Where they are
fewer, its beginning is read again (changed records go there), then the whole list; if that brings nothing new, the
walk ends with ShortList: what was read is right, but something may be missing, and no mark may move.

What cannot be had: records that neither the peer's pages nor its count know of; to notice, where pages are
counted, that as many records left the list before the place where we are as joined it behind; and to be sure of a
list that comes in another order with every request and shows more than it counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from dpn.registry.client.pages import PAGE_SIZE, RowsOfAPage
from dpn.registry.wire import AS_WE_WRITE_IT, format_instant, parse_instant

Fetch = Callable[[int, str | None], RowsOfAPage]
"""The page of this number among the records up to a time, or of the whole list."""

SPARE_PAGES = 20
"""How many more pages are read than the list should have, for what moves and is read again."""

SMALLEST_PAGE = 10
"""A first page of so many may be all that the peer gives at once: the next one is asked for whatever it says."""

MAX_PAGES = 100_000
MAX_PASSES = 10
"""How often a list is counted through that shows fewer records than it says."""

MAX_BARREN_PASSES = 4
"""How many of them may bring nothing new where the list has another order than it should; else one."""

MOST_REPEATED = 4
"""At most one in so many rows of a page is read twice for the sake of a page that begins at a time."""

ONE_SECOND = timedelta(seconds=1)
"""A page's last second is asked for whole: real servers leave out what is at the time itself, others do not."""


class EndlessList(Exception):
    """The peer's pages do not make a list."""


class ShortList(Exception):
    """The peer's pages have shown fewer records than it says there are."""


@dataclass(frozen=True)
class Reading:
    """How a row's identity and time are read."""

    key: tuple[str, ...]
    stamp: str

    def identity(self, row: Any) -> int:
        """A number that only this record has. What is no record counts as one: the peer counts it, too."""
        if isinstance(row, dict):
            return hash(tuple(str(row.get(name)).lower() for name in self.key))
        return hash(str(row)[:1000])

    def time(self, row: Any) -> str | None:
        """As `YYYY-MM-DDTHH:MM:SSZ`, which sorts as the times do; None if it has no time."""
        text = row.get(self.stamp) if isinstance(row, dict) else None
        if isinstance(text, str) and AS_WE_WRITE_IT.match(text):
            return text
        try:
            return format_instant(parse_instant(text))
        except ValueError:
            return None


@dataclass(frozen=True)
class _Place:
    """Which page of the list is read: this one of the records up to `before`, or of all."""

    number: int
    before: str | None


class ListWalk:
    """One walk; not to be used twice."""

    def __init__(self, fetch: Fetch, reading: Reading, before: str | None = None) -> None:
        self._fetch = fetch
        self._reading = reading
        self._start = _Place(1, before)
        self._seen: set[int] = set()
        self._newest = ""
        self._is_ordered = True
        self._count = 0

    def pages(self) -> Iterator[list[Any]]:
        """The rows, page by page, of some pages none; some rows show twice. Raises EndlessList and ShortList."""
        yield from self._pass(by_time=True)
        if self._is_ordered and self._missing():
            yield from self._pass(by_time=True, until=self._newest)
        if not self._is_ordered or self._missing():
            yield from self._count_through()
        if missing := self._missing():
            raise ShortList(f"{missing} of the {self._count} records that it counts did not show")

    def _count_through(self) -> Iterator[list[Any]]:
        """The whole list by page numbers, again as long as records are missing and there is hope to see them."""
        patience = MAX_BARREN_PASSES if not self._is_ordered else 1
        for _ in range(MAX_PASSES):
            known = len(self._seen)
            yield from self._pass(by_time=False)
            patience -= len(self._seen) == known
            if not self._missing() or patience == 0:
                return

    def _missing(self) -> int:
        return max(0, self._count - len(self._seen))

    def _pass(self, *, by_time: bool, until: str = "") -> Iterator[list[Any]]:
        """From the newest on, to the first page that ends before `until`."""
        place: _Place | None = self._start
        before: RowsOfAPage | None = None
        tally = _Tally()
        while place:
            page = self._fetch(place.number, place.before)
            tally.add(page, place, before)
            times = [time for row in page.rows if (time := self._reading.time(row))]
            if before is None:
                self._count, self._newest = page.count, max(times, default="")
            yield self._fresh(page.rows, before.rows if before else [])
            if by_time and not _in_order(times, place.before):
                self._is_ordered = False
                return
            if times and times[-1] < until:
                return
            place, before = tally.following(page, times if by_time else []), page

    def _fresh(self, rows: Sequence[Any], previous: Sequence[Any]) -> list[Any]:
        """Those that the page before did not show as they are."""
        identity = self._reading.identity
        shown = {identity(row): row for row in previous}
        fresh = [row for row in rows if shown.get(identity(row)) != row]
        self._seen.update(map(identity, fresh))
        return fresh


class _Tally:
    """What the pages of one pass have been like, and where that leads."""

    def __init__(self) -> None:
        self._place = _Place(1, None)
        self._repeats = False
        self._gone = 0
        self._pages = 0
        self._expected = 1
        self._size = PAGE_SIZE
        self._largest = 0

    def add(self, page: RowsOfAPage, place: _Place, before: RowsOfAPage | None) -> None:
        """Raises EndlessList where the pages are more than the records that the peer counts can fill."""
        advanced = place.before == self._place.before and place.number > self._place.number
        self._repeats = advanced and before is not None and page.rows == before.rows
        same_list = before is not None and place.before == self._place.before
        self._gone = before.count - page.count if before is not None and same_list else 0
        self._place = place
        self._pages += 1
        self._size = min(self._size, len(page.rows)) if page.rows and page.has_next else self._size
        self._largest = max(self._largest, len(page.rows))
        self._expected = max(self._expected, math.ceil(page.count / self._size))
        if self._pages > min(2 * self._expected + SPARE_PAGES, MAX_PAGES):
            raise EndlessList(f"more than {self._pages - 1} pages of {self._size} for {page.count} records")

    def following(self, page: RowsOfAPage, times: Sequence[str]) -> _Place | None:
        """The page to read next, by its time where `times` are given; None at the end."""
        number, bound = self._place.number, self._place.before
        if self._gone > 0 and number > 1:
            return _Place(number - min(number - 1, math.ceil(self._gone / self._size)), bound)
        if self._is_last(page):
            return None
        before = _second_after(times[-1]) if times else None
        if before is None or (bound is not None and before >= bound):
            return _Place(number + 1, bound)
        repeated = sum(time <= before for time in times)
        return _Place(1, before) if repeated * MOST_REPEATED <= len(times) else _Place(number + 1, bound)

    def _is_last(self, page: RowsOfAPage) -> bool:
        """A full page is not believed to be the last, nor one with more than is counted, whatever the peer says.

        Raises EndlessList where it says that more follow, and shows the same again.
        """
        counted_on = (self._place.number - 1) * self._size + len(page.rows) < page.count
        if not page.rows:
            return True
        if self._repeats:  # some show their last page for all that would follow
            if page.has_next or counted_on:
                raise EndlessList("every page holds the same rows")
            return True
        is_full = len(page.rows) >= (SMALLEST_PAGE if self._pages == 1 else self._largest)
        return not (is_full or len(page.rows) > page.count or page.has_next or counted_on)


def _in_order(times: Sequence[str], before: str | None) -> bool:
    """Whether the page is newest first, and of the time that was asked for."""
    is_later = before is not None and bool(times) and times[0] > before
    return not is_later and all(newer >= older for newer, older in pairwise(times))


def _second_after(time: str) -> str | None:
    try:
        return format_instant(parse_instant(time) + ONE_SECOND)
    except ValueError:
        return None
