"""Chooses the nodes that are to keep a copy: spread over regions and kinds of storage before chance decides.

Copies in one region, or on one kind of storage, can be lost together. Pure, and the same for the same seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A node, and where it keeps what it keeps."""

    node: str
    region: str
    storage_type: str


def choose_nodes(
    candidates: Collection[Site], count: int, *, holders: Sequence[Site], excluded: Collection[str], seed: str
) -> list[str]:
    """At most `count` of the candidates, fewer if there are no more; the best choice first.

    `holders` keep a copy, or are about to: they are not chosen, and what is spread is spread away from them.
    `excluded` are not chosen, whatever else holds. `seed` decides among those that are equally good.
    """
    never = {*excluded, *(holder.node for holder in holders)}
    open_places = {place.node: place for place in candidates if place.node not in never}
    placed = list(holders)
    chosen: list[str] = []
    while open_places and len(chosen) < count:
        best = min(open_places.values(), key=lambda place: (*_crowding(place, placed), _chance(seed, place.node)))
        placed.append(open_places.pop(best.node))
        chosen.append(best.node)
    return chosen


def _crowding(place: Site, placed: Sequence[Site]) -> tuple[int, int]:
    """How many copies are already in the place's region, and on its type of storage."""
    in_region = sum(other.region == place.region for other in placed)
    of_type = sum(other.storage_type == place.storage_type for other in placed)
    return in_region, of_type


def _chance(seed: str, node: str) -> str:
    return hashlib.sha256(f"{seed}\0{node}".encode()).hexdigest()
