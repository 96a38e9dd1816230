"""Whatever a peer sends: a report or NotABag, the same from both readers; what is valid is so for others too."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.fuzzed_bags import judge, spoil
from tests.fixtures.made_bags import UUID

SEEDS = sorted((Path(__file__).resolve().parents[2] / "fuzz" / "seeds" / "bags").glob("*.tar"))
CONTENTS = [seed.read_bytes() for seed in SEEDS]
PER_TEST = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.stem)
def test_every_seed_that_was_ever_kept_is_judged(seed: Path, tmp_path: Path) -> None:
    report = judge(seed.read_bytes(), tmp_path / f"{UUID}.tar")
    if seed.stem.startswith("valid-"):
        assert report is not None
        assert report.valid


@PER_TEST
@given(seed=st.integers(0, 2**64))
def test_a_spoiled_bag_never_breaks_the_validator_nor_fools_it(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    judge(spoil(chance.choice(CONTENTS), chance, CONTENTS), tmp_path / f"{UUID}.tar")


@PER_TEST
@given(content=st.binary(max_size=2000), seed=st.integers(0, len(CONTENTS) - 1), at=st.integers(0, 20_000))
def test_arbitrary_bytes_anywhere_never_break_the_validator(
    content: bytes, seed: int, at: int, tmp_path: Path
) -> None:
    whole = CONTENTS[seed]
    judge(whole[:at] + content + whole[at + len(content) :], tmp_path / f"{UUID}.tar")
