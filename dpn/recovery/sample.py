"""Draws some of many ids at random without reading them all: windows of them at random places. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from uuid import UUID

WINDOW = 64
"""Of so many ids in a row one is drawn, so that those after a wide gap are hardly likelier than others."""

ID_BITS = 128

Page = Callable[[str, int], list[str]]
"""The ids from one on, in order, at most so many."""


def draw(page: Page, count: int, rng: random.Random) -> list[str]:
    """`count` different ids, each about as likely as any other; all of them if there are no more.

    The same ids and the same state of `rng` give the same draw. Reads some 64 ids for each that is drawn.
    """
    drawn: dict[str, None] = {}
    while len(drawn) < count and (window := _window(page, rng, drawn.keys())):
        drawn[rng.choice(window)] = None
    return list(drawn)


def _window(page: Page, rng: random.Random, drawn: Set[str]) -> list[str]:
    """Ids in a row from a random place on, across the end if need be, without those that are drawn already."""
    start = str(UUID(int=rng.getrandbits(ID_BITS)))
    most = WINDOW + len(drawn)
    ids = page(start, most)
    if len(ids) < most:
        ids += [one for one in page("", most - len(ids)) if one < start]
    return [one for one in ids if one not in drawn]
