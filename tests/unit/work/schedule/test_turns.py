"""Whose turn it is, of those who have asked for much and for little."""

from __future__ import annotations

from dpn.work.schedule.turns import take_turns


def test_one_with_a_thousand_does_not_starve_one_with_a_single_item() -> None:
    waiting = {"alice": range(1, 1001), "bob": [2000]}
    assert take_turns(waiting, {}, 4) == [1, 2000, 2, 3]


def test_who_has_least_under_way_comes_first() -> None:
    waiting = {"alice": [1, 2], "bob": [11, 12], "carol": [21]}
    assert take_turns(waiting, {"alice": 2, "bob": 1}, 5) == [21, 11, 1, 12, 2]


def test_it_ends_with_what_there_is() -> None:
    assert take_turns({}, {"alice": 3}, 5) == []
    assert take_turns({"alice": [], "bob": [1]}, {}, 5) == [1]
