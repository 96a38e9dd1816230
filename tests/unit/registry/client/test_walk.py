"""Walking through lists that change while they are read, and through peers whose lists never end."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.registry import strict_json
from dpn.registry.client.pages import MAX_ROWS, PAGE_SIZE, RowsOfAPage, read_page
from dpn.registry.client.walk import EndlessList, ListWalk, Reading, ShortList
from dpn.registry.wire import format_instant, parse_instant

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
BY_ID = Reading(("id",), "updated_at")

Rows = dict[int, float]
Event = Callable[["MovingList"], None]


@dataclass
class MovingList:
    """A list as a server keeps it: records and the (hidden, fractional) seconds of their stamps."""

    stamps: Rows
    script: dict[int, list[Event]] = field(default_factory=dict)
    """What happens to it before each request."""
    page_size: int = PAGE_SIZE
    order: str = "newest first"
    before: str = "exclusive"
    seed: int = 0
    requests: int = 0
    touched: set[int] = field(default_factory=set)

    def page(self, number: int, before: str | None) -> RowsOfAPage:
        for event in self.script.get(self.requests, ()):
            event(self)
        self.requests += 1
        ids = self._ordered([id_ for id_ in self.stamps if self._is_asked_for(id_, before)])
        start = (number - 1) * self.page_size
        rows = [self.row(id_) for id_ in ids[start : start + self.page_size]]
        return RowsOfAPage(rows, len(ids), start + self.page_size < len(ids))

    def row(self, id_: int) -> dict[str, Any]:
        return {
            "id": id_,
            "updated_at": format_instant(BEGINNING + timedelta(seconds=math.floor(self.stamps[id_]))),
        }

    def _is_asked_for(self, id_: int, before: str | None) -> bool:
        if before is None or self.before == "ignored":
            return True
        limit = (parse_instant(before) - BEGINNING).total_seconds()
        return self.stamps[id_] < limit if self.before == "exclusive" else math.floor(self.stamps[id_]) <= limit

    def _ordered(self, ids: list[int]) -> list[int]:
        match self.order:
            case "newest first":
                return sorted(ids, key=lambda id_: (-self.stamps[id_], id_))
            case "oldest first":
                return sorted(ids, key=lambda id_: (self.stamps[id_], id_))
            case "as they came":
                return ids
            case "by identity":
                return sorted(ids, reverse=True)
            case "another each time":
                return random.Random(self.seed + self.requests).sample(ids, len(ids))
        raise AssertionError(self.order)

    def add(self, id_: int, stamp: float) -> None:
        self.touched.add(id_)
        self.stamps.setdefault(id_, stamp)

    def change(self, id_: int) -> None:
        """It gets a new stamp, later than all."""
        if id_ in self.stamps:
            self.touched.add(id_)
            self.stamps[id_] = max(self.stamps.values()) + 0.7

    def remove(self, id_: int) -> None:
        self.touched.add(id_)
        self.stamps.pop(id_, None)


def walk(peer: MovingList) -> list[Any]:
    return [row for rows in ListWalk(peer.page, BY_ID).pages() for row in rows]


def ids_of(rows: list[Any]) -> list[int]:
    return [row["id"] for row in rows]


def spread(count: int, *, seconds: float) -> Rows:
    return {id_: 1000 + id_ * seconds for id_ in range(count)}


@pytest.mark.parametrize("before", ["exclusive", "inclusive", "ignored"])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3, 1.0, 60.0])
@pytest.mark.parametrize("count", [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE])
def test_a_still_list_is_read_whole_and_hardly_anything_twice(count: int, seconds: float, before: str) -> None:
    peer = MovingList(spread(count, seconds=seconds), before=before)
    rows = walk(peer)
    assert set(ids_of(rows)) == set(range(count))
    assert peer.requests <= count // PAGE_SIZE + 4
    if before != "ignored":
        assert len(rows) == count


@pytest.mark.parametrize("order", ["newest first", "oldest first", "as they came", "by identity"])
@pytest.mark.parametrize("page_size", [1, 7, 25, 99])
def test_a_peer_with_smaller_pages_than_asked_for_is_read_whole(page_size: int, order: str) -> None:
    assert set(ids_of(walk(MovingList(spread(60, seconds=0.4), page_size=page_size, order=order)))) == set(
        range(60)
    )


def test_a_count_that_says_more_than_next_is_believed() -> None:
    peer = MovingList(spread(150, seconds=0))

    def page(number: int, before: str | None) -> RowsOfAPage:
        page = peer.page(number, before)
        return RowsOfAPage(page.rows, page.count, has_next=False)

    assert sum(len(rows) for rows in ListWalk(page, BY_ID).pages()) == 150


def test_a_full_page_is_not_believed_to_be_the_last() -> None:
    peer = MovingList(spread(350, seconds=1))

    def page(number: int, before: str | None) -> RowsOfAPage:
        rows = peer.page(number, before).rows
        return RowsOfAPage(rows, len(rows), has_next=False)

    assert sum(len(rows) for rows in ListWalk(page, BY_ID).pages()) == 350
    peer.page_size = 24
    assert sum(len(rows) for rows in ListWalk(page, BY_ID).pages()) == 350


def test_a_peer_that_shows_its_last_page_for_all_that_follow_is_read_to_its_end() -> None:
    peer = MovingList(spread(200, seconds=0))
    rows = [
        row
        for rows in ListWalk(lambda number, before: peer.page(min(number, 2), before), BY_ID).pages()
        for row in rows
    ]
    assert sorted(ids_of(rows)) == list(range(200))


IDS = st.integers(0, 399)
WHEN = st.integers(0, 8)
ADDED = st.builds(lambda id_, at: lambda peer: peer.add(1000 + id_, 900.0 + at), IDS, st.floats(0, 600))
CHANGED = st.builds(lambda id_: lambda peer: peer.change(id_), IDS)
REMOVED = st.builds(lambda id_: lambda peer: peer.remove(id_), IDS)


def scripts(*events: st.SearchStrategy[Event]) -> st.SearchStrategy[dict[int, list[Event]]]:
    return st.dictionaries(WHEN, st.lists(st.one_of(*events), min_size=1, max_size=12), max_size=8)


PAGE_SIZES = st.sampled_from([30, 50, PAGE_SIZE])
STAMPS = st.lists(st.floats(1000, 1400), min_size=1, max_size=400).map(lambda stamps: dict(enumerate(stamps)))
CROWDED = st.lists(st.integers(1000, 1002), min_size=1, max_size=400).map(lambda stamps: dict(enumerate(stamps)))


@settings(deadline=None)
@given(
    st.integers(1, 400), scripts(ADDED, CHANGED, REMOVED), PAGE_SIZES, st.sampled_from(["exclusive", "inclusive"])
)
def test_where_the_order_holds_whatever_comes_goes_and_changes_takes_no_other_record_with_it(
    count: int, script: dict[int, list[Event]], page_size: int, before: str
) -> None:
    peer = MovingList(spread(count, seconds=1.0), script, page_size, before=before)
    read = set(ids_of(walk(peer)))
    assert set(range(count)) - peer.touched <= read


@settings(deadline=None)
@given(CROWDED, scripts(CHANGED), PAGE_SIZES, st.sampled_from(["exclusive", "inclusive"]))
def test_where_many_have_one_second_changes_take_no_other_record_with_them(
    stamps: Rows, script: dict[int, list[Event]], page_size: int, before: str
) -> None:
    everything = set(stamps)
    peer = MovingList(stamps, script, page_size, before=before)
    read = set(ids_of(walk(peer)))
    assert everything - peer.touched <= read


@settings(deadline=None)
@given(CROWDED, scripts(REMOVED), PAGE_SIZES)
def test_where_many_have_one_second_removals_take_no_other_record_with_them(
    stamps: Rows, script: dict[int, list[Event]], page_size: int
) -> None:
    everything = set(stamps)
    peer = MovingList(stamps, script, page_size)
    read = set(ids_of(walk(peer)))
    assert everything - peer.touched <= read


@settings(deadline=None)
@given(
    st.one_of(STAMPS, CROWDED),
    scripts(ADDED),
    PAGE_SIZES,
    st.sampled_from(["newest first", "oldest first", "as they came", "by identity"]),
    st.sampled_from(["exclusive", "inclusive", "ignored"]),
)
def test_records_that_never_change_are_all_read_whatever_the_order_and_what_joins_them(
    stamps: Rows, script: dict[int, list[Event]], page_size: int, order: str, before: str
) -> None:
    everything = set(stamps)
    peer = MovingList(stamps, script, page_size, order=order, before=before)
    assert everything <= set(ids_of(walk(peer)))


@settings(deadline=None)
@given(st.one_of(STAMPS, CROWDED), PAGE_SIZES, st.integers(0, 1000), st.sampled_from(["exclusive", "ignored"]))
def test_a_list_without_any_order_is_read_whole_or_said_to_be_short(
    stamps: Rows, page_size: int, seed: int, before: str
) -> None:
    peer = MovingList(dict(stamps), {}, page_size, "another each time", before, seed)
    read: set[int] = set()
    try:
        for rows in ListWalk(peer.page, BY_ID).pages():
            read.update(ids_of(rows))
    except ShortList:
        assert len(read) < len(stamps)
    else:
        assert read == set(stamps)


def test_a_record_that_changed_behind_us_is_read_at_the_head_of_the_list() -> None:
    peer = MovingList(spread(350, seconds=5), {2: [lambda peer: peer.change(0)]})
    assert 0 in ids_of(walk(peer))
    assert peer.requests == 5, "the whole list was read again"


def test_a_record_that_leaves_pages_that_are_counted_takes_no_other_with_it() -> None:
    crowd = dict.fromkeys(range(300), 1000.0) | {300: 1001.0}
    assert set(ids_of(walk(MovingList(crowd, {2: [lambda peer: peer.remove(5)]})))) == set(range(301))


def test_a_count_that_is_too_large_is_told_and_costs_no_record() -> None:
    peer = MovingList(spread(250, seconds=1))

    def page(number: int, before: str | None) -> RowsOfAPage:
        page = peer.page(number, before)
        return RowsOfAPage(page.rows, page.count + 3, page.has_next)

    read: list[Any] = []
    with pytest.raises(ShortList, match="3 of the 253"):
        read.extend(row for rows in ListWalk(page, BY_ID).pages() for row in rows)
    assert set(ids_of(read)) == set(range(250))
    assert peer.requests < 20


def test_a_peer_that_answers_every_page_alike_is_left() -> None:
    page = RowsOfAPage([{"id": id_} for id_ in range(100)], 1000, True)
    with pytest.raises(EndlessList, match="same rows"):
        list(ListWalk(lambda _number, _before: page, BY_ID).pages())


def test_a_peer_that_always_has_a_next_page_is_left_soon() -> None:
    asked_for = []

    def page(number: int, _before: str | None) -> RowsOfAPage:
        asked_for.append(number)
        return RowsOfAPage([{"id": number}] * 100, 100, True)

    with pytest.raises(EndlessList, match="for 100 records"):
        list(ListWalk(page, BY_ID).pages())
    assert len(asked_for) < 30


def test_a_list_that_shrinks_for_ever_ends() -> None:
    counts = iter(range(10**9, 0, -100))
    with pytest.raises(EndlessList):
        for _ in ListWalk(
            lambda number, _: RowsOfAPage([number, next(counts)], next(counts), True), BY_ID
        ).pages():
            pass


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(-5, 500), max_size=120), st.integers(0, 1000), st.booleans())))
def test_whatever_the_pages_are_the_walk_ends(pages: list[tuple[list[int], int, bool]]) -> None:
    fetched = 0

    def page(_number: int, _before: str | None) -> RowsOfAPage:
        nonlocal fetched
        fetched += 1
        if not pages:
            return RowsOfAPage([], 0, False)
        stamps, count, has_next = pages[fetched % len(pages)]
        rows = [
            {
                "id": stamp,
                "updated_at": format_instant(BEGINNING + timedelta(seconds=stamp)) if stamp >= 0 else "?",
            }
            for stamp in stamps
        ]
        return RowsOfAPage(rows, count, has_next)

    try:
        for _ in ListWalk(page, BY_ID).pages():
            pass
    except (EndlessList, ShortList):
        pass
    assert fetched < 7 * (2 * 1000 + 21)


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"null",
        b'{"count": 1}',
        b'{"count": 1, "results": {}}',
        b'{"results": []}',
        b'{"count": "1", "results": []}',
        b'{"count": true, "results": []}',
        b'{"count": -1, "results": []}',
        b'{"count": NaN, "results": []}',
        b'{"count": 1, "count": 2, "results": []}',
        b'{"count": 0, "results": [], "results": [1]}',
    ],
)
def test_what_is_no_page_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="page"):
        read_page(strict_json.parse(text))


def test_a_flaw_in_a_row_does_not_spoil_the_page() -> None:
    page = read_page(strict_json.parse(b'{"count": 1, "next": null, "results": [{"a": 1, "a": NaN}]}'))
    assert (len(page.rows), page.count, page.has_next) == (1, 1, False)


def test_a_page_of_more_rows_than_anybody_gives_is_refused_before_a_row_is_looked_at() -> None:
    assert len(read_page({"count": 1, "results": [None] * MAX_ROWS}).rows) == MAX_ROWS
    with pytest.raises(ValueError, match="a page of 1001 rows where 100 were asked for"):
        read_page({"count": 1, "results": [None] * (MAX_ROWS + 1)})
