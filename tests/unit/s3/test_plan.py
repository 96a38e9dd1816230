"""How files are cut into parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.s3.plan import MAX_PARTS, PartPlan, plan_parts, same_plan

MEBIBYTE = 1024 * 1024
LARGEST = 5 * 1024**4
part_sizes = st.integers(5 * MEBIBYTE, 5 * 1024**3)


@given(st.integers(0, LARGEST), part_sizes)
def test_every_plan_is_one_that_s3_takes(size: int, part_size: int) -> None:
    plan = plan_parts(size, part_size)

    assert 1 <= plan.count <= MAX_PARTS
    assert part_size <= plan.part_size <= 5 * 1024**3
    assert plan.whole == (size <= plan.part_size)


@given(st.integers(0, 2000), st.integers(1, 300))
def test_parts_follow_each_other_without_gap_or_overlap(size: int, part_size: int) -> None:
    plan = PartPlan(size, part_size)
    parts = list(plan.parts())

    assert [part.number for part in parts] == list(range(1, plan.count + 1))
    end = 0
    for part in parts:
        assert part.offset == end
        end += part.size
    assert end == size
    assert all(part.size == part_size for part in parts[:-1])


def test_the_part_size_grows_only_when_ten_thousand_parts_would_not_do() -> None:
    assert plan_parts(64 * MEBIBYTE * MAX_PARTS, 64 * MEBIBYTE).part_size == 64 * MEBIBYTE
    assert plan_parts(64 * MEBIBYTE * MAX_PARTS + 1, 64 * MEBIBYTE).part_size == 65 * MEBIBYTE
    assert plan_parts(LARGEST, 64 * MEBIBYTE).count <= MAX_PARTS


@pytest.mark.parametrize("claimed", [None, 0, -1, 1])
def test_nonsense_that_an_object_claims_of_its_parts_gives_no_plan(claimed: int | None) -> None:
    assert same_plan(10 * MEBIBYTE * MAX_PARTS, claimed) is None


def test_an_empty_file_is_one_empty_part() -> None:
    [part] = plan_parts(0, 5 * MEBIBYTE).parts()

    assert (part.number, part.offset, part.size) == (1, 0, 0)
