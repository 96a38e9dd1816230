"""A draw is fair, the same for the same seed, never twice the same id, and reads little of what there is."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.recovery.sample import WINDOW, draw


class Ids:
    """Ids in order, and how many were read."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = sorted(ids)
        self.read = 0

    def page(self, first: str, most: int) -> list[str]:
        at = bisect_left(self.ids, first)
        found = self.ids[at : at + most]
        self.read += len(found)
        return found


def some(count: int, seed: int = 1) -> Ids:
    rng = random.Random(seed)
    return Ids([str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)])


@settings(deadline=None)
@given(count=st.integers(0, 200), wanted=st.integers(1, 150), seed=st.integers(0, 1000))
def test_as_many_different_ids_as_wanted_or_all_there_are(count: int, wanted: int, seed: int) -> None:
    ids = some(count)
    drawn = draw(ids.page, wanted, random.Random(seed))
    assert len(drawn) == len(set(drawn)) == min(count, wanted)
    assert set(drawn) <= set(ids.ids)
    assert drawn == draw(ids.page, wanted, random.Random(seed))


def test_few_ids_are_drawn_alike_however_uneven_the_gaps_between_them() -> None:
    ids = Ids([str(UUID(int=number)) for number in (1, 2, 3, 2**127)])
    counts = Counter(draw(ids.page, 1, random.Random(seed))[0] for seed in range(2000))
    assert all(400 < counts[one] < 600 for one in ids.ids)


@pytest.mark.parametrize("count", [1000, 5000])
def test_of_many_ids_none_is_much_likelier_than_another(count: int) -> None:
    """Drawn one by one behind random places, the likeliest would come a thousand times as often as the least."""
    ids = some(count)
    rng = random.Random(5)
    drawn = Counter(draw(ids.page, 1, rng)[0] for _ in range(40 * count))
    assert len(drawn) == count
    likeliest, least = max(drawn.values()), min(drawn.values())
    assert likeliest < 2.5 * 40
    assert least > 40 / 4


def test_only_a_few_windows_are_read_of_a_great_many() -> None:
    ids = some(100_000)
    draw(ids.page, 10, random.Random(1))
    assert ids.read <= 10 * (WINDOW + 10)
