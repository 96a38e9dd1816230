"""What holds of the `[work]` table in a network of a given size."""

from __future__ import annotations

import pytest

from dpn.work.settings import WorkSettings


@pytest.mark.parametrize(("nodes", "share"), [(0, 1.0), (1, 1.0), (2, 0.25), (9, 0.25)])
def test_the_only_peer_has_all_slots_and_one_of_several_its_share(nodes: int, share: float) -> None:
    assert WorkSettings(peer_share=0.25).among(nodes).peer_share == share
