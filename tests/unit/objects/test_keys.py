"""Keys: what names an object is decided once, and what a store lists is held to it as what somebody asks for."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.objects.keys import KeyRefused, check_key, check_prefix, fold_key, key_fault, shown

LONGEST = "/".join(["x" * 255] * 4) + "y"
"""1,024 bytes."""

FIT = [
    "a",
    "a/b/c",
    "-lead",
    "with blank ",
    "a#?%41&+;=@:",
    "..a/b..",
    "...",
    ".hidden",
    "日本/é",
    unicodedata.normalize("NFD", "é"),
    "a\\b",
    "\u200d",
    LONGEST,
]
REFUSED = {
    "": "empty",
    "/a": "begins with '/'",
    "a//b": "empty part",
    "a/": "empty part",
    "..": "a part '..'",
    "../a": "a part '..'",
    "a/../b": "a part '..'",
    "a/..": "a part '..'",
    "./a": "a part '.'",
    "a/./b": "a part '.'",
    "a\0b": "control character",
    "a\nb": "control character",
    "a\x7f": "control character",
    "a\x9f": "control character",
    "a\u2028b": "control character",
    "a\udc80": "not UTF-8",
    LONGEST + "z": "more than 1024 bytes",
    "é" * 513: "more than 1024 bytes",
}


@pytest.mark.parametrize("key", FIT)
def test_a_key_that_names_an_object_stays_as_it_is(key: str) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize("key", REFUSED, ids=ascii)
def test_a_key_that_leads_elsewhere_or_cannot_be_told_is_refused_with_the_reason(key: str) -> None:
    with pytest.raises(KeyRefused) as refused:
        check_key(key)
    assert REFUSED[key] in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_an_empty_prefix_is_the_whole_root() -> None:
    assert check_prefix("") == ""
    with pytest.raises(KeyRefused):
        check_prefix("a/")


@given(st.text(max_size=40))
def test_what_passes_stays_below_its_root_in_any_folder(key: str) -> None:
    if key_fault(key) is None:
        parts = key.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert "\0" not in key
    assert len(shown(key).splitlines()) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("A/b", "a/B"), ("é", "e\u0301"), ("straße", "STRASSE"), ("ǰ", "J\u030c")], ids=ascii
)
def test_keys_that_a_file_system_may_hold_to_be_one_fold_to_the_same(one: str, other: str) -> None:
    assert fold_key(one) == fold_key(other)
    assert fold_key(one) != fold_key(one + "x")
