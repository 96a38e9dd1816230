"""Walking through lists that change while they are read, and through peers whose lists never end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.registry import strict_json
from dpn.registry.client.pages import PAGE_SIZE, EndlessList, RowsOfAPage, read_page, walk


class PeersList:
    """A list as a server keeps it, newest first; `script` says what happens to it before each page is read."""

    def __init__(self, rows: list[Any], script: dict[int, Any] | None = None, page_size: int = PAGE_SIZE) -> None:
        self.rows = list(rows)
        self.script = script or {}
        self.page_size = page_size
        self.pages_read = 0

    def page(self, number: int) -> RowsOfAPage:
        change = self.script.get(self.pages_read)
        if change is not None:
            change(self.rows)
        self.pages_read += 1
        start = (number - 1) * self.page_size
        rows = self.rows[start : start + self.page_size]
        return RowsOfAPage(rows, len(self.rows), start + self.page_size < len(self.rows))


def everything(peer: PeersList) -> list[Any]:
    return [row for rows in walk(peer.page) for row in rows]


@pytest.mark.parametrize("count", [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE])
def test_a_still_list_is_read_once(count: int) -> None:
    peer = PeersList(list(range(count)))
    assert everything(peer) == list(range(count))
    assert peer.pages_read <= count // PAGE_SIZE + 1


@pytest.mark.parametrize("page_size", [1, 7, 25, 99])
def test_a_peer_with_smaller_pages_than_asked_for_is_read_whole(page_size: int) -> None:
    assert everything(PeersList(list(range(60)), page_size=page_size)) == list(range(60))


def test_a_count_that_says_more_than_next_is_believed() -> None:
    pages = [RowsOfAPage(list(range(100)), 150, False), RowsOfAPage(list(range(100, 150)), 150, False)]
    assert sum(len(rows) for rows in walk(lambda number: pages[number - 1])) == 150


MOVES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 399)), max_size=6)


@given(st.integers(1, 400), MOVES)
def test_records_that_change_while_we_read_are_the_only_ones_that_may_be_missed(
    count: int, moves: list[tuple[int, int]]
) -> None:
    moved = set()
    script = {}
    for before_page, row in moves:

        def to_the_front(rows: list[Any], row: int = row) -> None:
            if row in rows:
                rows.remove(row)
                rows.insert(0, row)
                moved.add(row)

        script[before_page] = to_the_front
    read = everything(PeersList(list(range(count)), script))
    assert set(range(count)) - set(read) <= moved


@given(st.integers(1, 600), st.lists(st.tuples(st.integers(1, 6), st.integers(0, 599)), max_size=5))
def test_records_that_leave_the_list_take_no_others_with_them(count: int, removals: list[tuple[int, int]]) -> None:
    gone = set()
    script = {}
    for before_page, row in removals:

        def leave(rows: list[Any], row: int = row) -> None:
            if row in rows:
                rows.remove(row)
                gone.add(row)

        script[before_page] = leave
    read = everything(PeersList(list(range(count)), script))
    assert set(range(count)) - set(read) <= gone


def test_a_peer_that_answers_every_page_alike_is_left() -> None:
    page = RowsOfAPage(list(range(100)), 1000, True)
    with pytest.raises(EndlessList, match="same rows"):
        list(walk(lambda _number: page))


def test_a_peer_that_always_has_a_next_page_is_left_soon() -> None:
    asked_for = []

    def page(number: int) -> RowsOfAPage:
        asked_for.append(number)
        return RowsOfAPage([number] * 100, 100, True)

    with pytest.raises(EndlessList, match="for 100 records"):
        list(walk(page))
    assert len(asked_for) < 30


def test_a_list_that_shrinks_for_ever_ends() -> None:
    counts = iter(range(10**9, 0, -100))
    with pytest.raises(EndlessList):
        for _ in walk(lambda number: RowsOfAPage([number, next(counts)], next(counts), True)):
            pass


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
