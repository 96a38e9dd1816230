"""Choosing nodes: never the same twice, never an excluded one, spread before chance, the same for a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpn.ingest.placement import Site, choose_nodes

US = Site("us", "east", "glacier")


def places(*told: str) -> list[Site]:
    """From "name region type"."""
    return [Site(*text.split()) for text in told]


def test_a_region_without_a_copy_comes_before_one_that_has_one() -> None:
    candidates = places("near east tape", "far west glacier")
    for seed in map(str, range(20)):
        assert choose_nodes(candidates, 1, holders=[US], excluded=(), seed=seed) == ["far"]


def test_in_equal_regions_another_type_of_storage_comes_first() -> None:
    candidates = places("same west glacier", "other west tape")
    for seed in map(str, range(20)):
        assert choose_nodes(candidates, 1, holders=[US], excluded=(), seed=seed) == ["other"]


def test_the_second_choice_is_spread_from_the_first() -> None:
    candidates = places("a west tape", "b west tape", "c south tape")
    for seed in map(str, range(20)):
        assert "c" in choose_nodes(candidates, 2, holders=[US], excluded=(), seed=seed)


def test_among_equals_chance_decides_and_different_bags_go_to_different_nodes() -> None:
    candidates = places("a west tape", "b west tape", "c west tape")
    first = {choose_nodes(candidates, 1, holders=[US], excluded=(), seed=str(bag))[0] for bag in range(100)}
    assert first == {"a", "b", "c"}


candidates = st.lists(
    st.builds(
        Site, st.sampled_from("abcdefgh"), st.sampled_from(["east", "west"]), st.sampled_from(["tape", "s3"])
    ),
    unique_by=lambda place: place.node,
)


@given(candidates, st.integers(0, 9), st.sets(st.sampled_from("abcdefgh")), st.text(max_size=5), st.randoms())
def test_what_is_chosen_is_distinct_allowed_as_many_as_there_are_and_does_not_depend_on_the_order(
    offered: list[Site], count: int, excluded: set[str], seed: str, random: object
) -> None:
    chosen = choose_nodes(offered, count, holders=[US], excluded=excluded, seed=seed)
    allowed = {place.node for place in offered} - excluded
    assert len(set(chosen)) == len(chosen) == min(count, len(allowed))
    assert set(chosen) <= allowed
    shuffled = list(offered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose_nodes(shuffled, count, holders=[US], excluded=excluded, seed=seed) == chosen
    assert choose_nodes(offered, count, holders=[US, *offered], excluded=(), seed=seed) == []
