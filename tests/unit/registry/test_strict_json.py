"""JSON from strangers."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.registry.strict_json import MAX_DEPTH, MAX_VALUES, BrokenJson, flaw_of, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_good_json_is_read_as_it_is(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.binary())
def test_any_bytes_are_json_or_broken(text: bytes) -> None:
    try:
        value = parse(text)
    except BrokenJson:
        return
    flaw_of(value)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a": }', b"\xff", b'"\xc3"', b"nul", b"1 2", b"9" * 5000, b"[" * 100_000, b'{"a":' * 100_000],
)
def test_what_cannot_be_read_is_broken(text: bytes) -> None:
    with pytest.raises(BrokenJson):
        parse(text)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'[{"x": {"a": 1, "b": 2, "b": 1}}]', "'b' stands twice"),
        (b'{"a": NaN}', "a number that JSON does not have"),
        (b"[1, -Infinity]", "a number that JSON does not have"),
        (b'{"a": 1e999}', "a number that JSON does not have"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
    ],
)
def test_what_is_ambiguous_is_named(text: bytes, flaw: str) -> None:
    assert flaw in str(flaw_of(parse(text)))


def test_a_flaw_in_one_row_leaves_the_others_usable() -> None:
    rows = parse(b'[{"a": 1}, {"a": 1, "a": 2}, {"a": NaN}, {"a": 3}]')
    assert [flaw_of(row) is None for row in rows] == [True, False, False, True]


def test_as_deep_as_allowed_is_no_flaw() -> None:
    assert flaw_of(parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)) is None


PARTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.just(parse(b'{"a": 1, "a": 2}')),
    ),
)


@given(PARTS)
def test_a_value_has_the_flaws_that_it_has_in_a_list(value: object) -> None:
    assert flaw_of(value) == flaw_of([value])


def test_a_repeated_key_is_found_in_time_that_grows_with_the_text() -> None:
    """Each key held against all others would take half a minute."""
    names = [*map(str, range(40_000)), "39999"]
    text = ("{" + ",".join(f'"{name}":0' for name in names) + "}").encode()
    begun = time.process_time()
    assert flaw_of(parse(text)) == "the key '39999' stands twice"
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("part", [b"[]", b"{}", b"0", b'""', b'{"":[]}'])
def test_a_text_of_more_values_than_anybody_needs_is_not_read(part: bytes) -> None:
    with pytest.raises(BrokenJson, match="more than 500000 values"):
        parse(b"[" + b",".join([part] * (MAX_VALUES + 1)) + b"]")


@pytest.mark.parametrize("end", [b'"', b"", b"\\"])
def test_what_stands_in_a_string_is_no_value(end: bytes) -> None:
    """Neither in one that ends nor, in time that grows with the text, in one that does not."""
    text = b'"' + b'[{,\\"' * MAX_VALUES + end
    if end == b'"':
        assert len(parse(text)) == 4 * MAX_VALUES
    else:
        with pytest.raises(BrokenJson, match="not JSON"):
            parse(text)
