"""Everything that can die dies at random while bags travel: each arrives once, proven, and nothing is left behind.

What happens is drawn from a seed; when it meets which process is not, so what is asserted holds of any run.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.invariants import broken_promises, settle, unfinished
from tests.faults.mischief import disturb, retry_what_waits_for_room
from tests.faults.world import ON_FILES, ON_SERVERS, World
from tests.fixtures.in_full import in_full
from tools.network.backends import Kinds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAYLOAD_BYTES = [50_000] * 6 + [5_000_000] * 4 + [30_000_000] * 2
VOLUME_BYTES = 250_000_000
FAULTS = 14
PATIENCE_SECONDS = 180.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[[Kinds], World]]:
    """Makes one; said what happens in it is shown if the test fails."""
    made: list[World] = []

    def make(kinds: Kinds) -> World:
        made.append(World(tmp_path, kinds, say=print))
        return made[-1]

    yield make
    for world in made:
        world.cluster.stop()


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[bool]:
    """South's staging volume on a disk that can be filled, where we may mount one; returns whether it is."""
    volume = tmp_path / "network" / "south" / "staging"
    volume.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", str(volume)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield mounted
    if mounted:
        subprocess.run(["umount", "--lazy", volume], check=True)


@pytest.mark.parametrize(
    ("kinds", "seed"),
    [pytest.param(ON_SERVERS, 4, id="servers"), pytest.param(ON_FILES, 5, id="files", marks=in_full)],
)
def test_whatever_dies_every_bag_is_stored_once_and_proven_and_nothing_is_left_behind(
    small_volume: bool, world: Callable[[Kinds], World], kinds: Kinds, seed: int
) -> None:
    chance = random.Random(seed)
    here = world(kinds)
    here.start()
    here.deposit(chance.sample(PAYLOAD_BYTES, len(PAYLOAD_BYTES)), chance)
    disturb(here, chance, count=FAULTS, disk_is_small=small_volume)
    retry_what_waits_for_room(here)
    assert settle(here, PATIENCE_SECONDS), unfinished(here)
    broken = broken_promises(here)
    assert not broken, "\n".join(broken)
