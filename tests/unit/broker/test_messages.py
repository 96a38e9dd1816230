"""A message is an item's id or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.broker.messages import LARGEST_ID, item_id_in


@given(st.integers(0, LARGEST_ID))
def test_an_id_is_read_as_it_was_written(item_id: int) -> None:
    assert item_id_in(str(item_id).encode()) == item_id


@given(st.binary(max_size=40))
def test_whatever_else_arrives_is_refused_with_its_first_bytes(body: bytes) -> None:
    if body.isdigit() and int(body) <= LARGEST_ID and len(body) <= len(str(LARGEST_ID)):
        assert item_id_in(body) == int(body)
        return
    with pytest.raises(ValueError, match="not an item id") as refused:
        item_id_in(body)
    assert repr(body[:64]) in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"-1", b"+1", b"1_0", b"0x1", b" 1", b"1\n", b"9" * 19, b"1" * 100_000])
def test_what_python_would_take_for_a_number_is_not_enough(body: bytes) -> None:
    with pytest.raises(ValueError, match="not an item id"):
        item_id_in(body)
