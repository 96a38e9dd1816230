"""Whose a token may be."""

from __future__ import annotations

import pytest

from dpn.access.tokens import parse_owner


@pytest.mark.parametrize("name", ["alice", "a", "alice@example.org", "CI-2", "x" * 64])
def test_a_name_of_letters_digits_and_a_few_signs_is_an_owner(name):
    assert parse_owner(name) == name


@pytest.mark.parametrize("name", ["", "-alice", "a b", "a:b", "a\n", "é", "a/b", "x" * 65])
def test_what_could_be_read_as_something_else_is_not(name):
    with pytest.raises(ValueError, match="no owner's name"):
        parse_owner(name)
