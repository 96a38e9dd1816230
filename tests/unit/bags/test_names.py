"""Names of files: the quick look and the close look agree, and nothing unsafe passes."""

from __future__ import annotations

import posixpath
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpn.bags.names import faults, is_plain, is_safe
from dpn.text import folded, normalized

BREAKS = [character for character in map(chr, range(0x110000)) if len(f"a{character}b".splitlines()) > 1]
BLANKS = [character for character in map(chr, range(0x110000)) if character.isspace()]


def misread_from_a_line(name: bytes) -> list[str]:
    """What somebody reads from a line of a manifest who splits and strips by Unicode's rules, unless the name."""
    lines = f"{'0' * 64}  {name.decode()}\n".splitlines()
    read = [line.strip().split(None, 1)[-1] for line in lines]
    return [] if read == [name.decode()] and not re.search("%0[AaDd]", read[0]) else read


NAMES = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from([b"a", b"..", b".", b"", b".hidden", b"x.txt", b"\\u0007", b"\xc3\xa9"])).map(
        b"/".join
    ),
    st.text(max_size=300).map(str.encode),
)


@given(NAMES)
@example(b"")
@example(b"a/")
@example(b"a ")
@example(b"a/b%0ac")
@example(b"100%/%20")
@example(b"n" * 256)
@example(b"data/\\u0085")
@example(b"data/./x")
@example(b"data/..")
@example(b"/data")
@example(b"data//x")
@example(b"bell\x07")
@example(b"caf\xc3\xa9")
def test_a_plain_name_has_no_fault(name: bytes) -> None:
    if is_plain(name):
        assert name.decode("ascii").isprintable()
        assert not {b"", b".", b".."} & set(name.split(b"/"))
        assert len(name) <= 255
        assert b"\\u00" not in name
        assert misread_from_a_line(name) == []


@given(NAMES)
def test_a_safe_name_stays_below_its_folder_whatever_reads_it(name: bytes) -> None:
    if is_safe(name):
        path = posixpath.normpath(b"/base/" + name)
        assert path == b"/base/" + name
        assert b"\0" not in name


@pytest.mark.parametrize(
    "name", [b".hidden", b"data/.keep", b"a b", b"data/~x", b"data/...", b"-rf", b"C:\\x", b"\xc3\xa9"]
)
def test_unusual_names_are_good_names(name: bytes) -> None:
    assert list(faults(name)) == []


@pytest.mark.parametrize("where", ["data/a{}", "data/a{}b", "data/a{}/b"])
def test_whatever_some_reader_ends_a_line_at_is_a_fault_wherever_it_stands(where: str) -> None:
    for character in BREAKS:
        found = {code for code, _ in faults(where.format(character).encode())}
        assert found & {"name-misread", "name-control-character"}, ascii(character)


@pytest.mark.parametrize("blank", [*BLANKS, "\u180e", "\u200b", "\ufeff"], ids=ascii)
def test_white_space_at_the_end_of_a_files_name_is_a_fault_and_nowhere_else(blank: str) -> None:
    assert faults_of(f"data/a{blank}")
    if blank not in {*BREAKS, "\t", "\x1f"}:
        assert faults_of(f"data/a{blank}b") == faults_of(f"data/a{blank}/b") == faults_of(f"data/{blank}b") == []
        assert list(faults(f"data/a{blank}".encode(), of_folder=True)) == []


def faults_of(name: str) -> list[str]:
    return [code for code, _ in faults(name.encode())]


@pytest.mark.parametrize("mark", ["\u200c", "\u200d", "\ufe0f", "\u00ad", "\u200f", "\u0301"], ids=ascii)
def test_what_a_language_or_an_emoji_ends_with_is_no_white_space(mark: str) -> None:
    assert faults_of(f"data/a{mark}") == []


@given(st.text(max_size=30).map(str.encode))
def test_folding_and_normalising_twice_is_as_good_as_once(name: bytes) -> None:
    assert normalized(normalized(name)) == normalized(name)
    assert folded(normalized(name)) == folded(name)
