"""Names of files: the quick look and the close look agree, and nothing unsafe passes."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpn.bags.names import faults, folded, is_plain, is_safe, manifest_algorithm, normalized

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


@given(st.text(max_size=30).map(str.encode))
def test_folding_and_normalising_twice_is_as_good_as_once(name: bytes) -> None:
    assert normalized(normalized(name)) == normalized(name)
    assert folded(normalized(name)) == folded(name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"manifest-sha256.txt", ("sha256", False)),
        (b"tagmanifest-md5.txt", ("md5", True)),
        (b"manifest-SHA256.txt", (None, False)),
        (b"._manifest-md5.txt", (None, False)),
        (b"a/manifest-md5.txt", (None, False)),
        (b"manifest-md5.txt\n", (None, False)),
        (b"manifest-sha-256.txt", (None, False)),
    ],
)
def test_manifests_are_known_by_their_exact_names(name: bytes, found: tuple[str | None, bool]) -> None:
    assert manifest_algorithm(name) == found
