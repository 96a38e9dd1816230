"""What an S3 prefix shows: keys that no bag can hold are refused by name, all else is kept in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("boto3")

from dpn.bags.errors import SourceRefused
from dpn.errors import SourceChanged
from dpn.packaging.s3.keys import check_key
from dpn.packaging.s3.listing import Listing, open_listing
from dpn.s3.pages import ListedObject

WHERE = "s3://bucket/prefix/"


def listed(*keys: str, size: int = 1) -> list[ListedObject]:
    return [ListedObject(key, size, f'"{number}"') for number, key in enumerate(keys)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "listing.sqlite"


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("../up", "'..'"),
        ("a/../../b", "'..'"),
        ("/absolute", "begins with '/'"),
        ("a//b", "empty"),
        ("./a", "'.'"),
        ("a\x00b", "NUL"),
        ("line\nfeed", "control"),
        ("bell\x07", "control"),
        ("end ", "white space"),
        ("%0Aline", "encoded line break"),
        ("end\u3000", "white space"),
        ("end\u00a0", "white space"),
        ("folder/one\u2028two", "line separator"),
        ("one\u2029two/x", "line separator"),
        ("p" * 256, "255 bytes"),
        ("d/" * 300 + "x", "301 parts"),
        ("lone \ud800 surrogate", "UTF-8"),
        ("folder/", "called like a folder"),
    ],
)
def test_a_key_that_no_bag_can_hold_is_refused_with_its_name(path: Path, key: str, complaint: str) -> None:
    assert complaint in (check_key(ListedObject(key, 7, '"e"')) or "")
    with open_listing(path) as listing, pytest.raises(SourceRefused, match="Rename these objects"):
        listing.fill([*listed("good"), ListedObject(key, 7, '"e"')], WHERE)
    with open_listing(path) as listing:
        assert not listing.complete


@pytest.mark.parametrize(
    "key", ["a", "\u65e5\u672c/x y", ".hidden", "100%", "-rf", "*", "a\\b", "x" * 255, "a /b"]
)
def test_other_keys_are_fit(key: str) -> None:
    assert check_key(ListedObject(key, 1, '"e"')) is None


def test_a_marker_of_a_folder_whose_name_ends_in_a_blank_is_one(path: Path) -> None:
    with open_listing(path) as listing:
        listing.fill([ListedObject("a /", 0, '"e"'), *listed("a /b")], WHERE)
        assert list(listing.folders()) == [b"a "]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (("Readme", "README"), "case"),
        (("caf\u00e9", "cafe\u0301"), "Unicode form"),
        (("a", "a/b"), "a file and a folder"),
        (("a/b", "a/b/c/d"), "a file and a folder"),
    ],
)
def test_keys_that_cannot_lie_side_by_side_are_refused(path: Path, keys: tuple[str, ...], complaint: str) -> None:
    with open_listing(path) as listing, pytest.raises(SourceRefused, match=complaint):
        listing.fill(listed(*keys, "other", "a!", "a0"), WHERE)


def test_every_key_that_no_bag_can_hold_is_told_and_the_rest_taken_in(path: Path) -> None:
    keys = ["good", *(f"{number} " for number in range(2500)), "Readme", "README", "a", "a/b"]
    with open_listing(path) as listing:
        found = dict(listing.take_in(listed(*keys), WHERE))
        assert set(found) == {*(f"{number} ".encode() for number in range(2500)), b"Readme", b"README", b"a"}
        assert listing.count() == 5
        assert not listing.complete


def test_names_that_only_begin_alike_are_no_conflict(path: Path) -> None:
    with open_listing(path) as listing:
        listing.fill(listed("a", "a!b", "a0", "ab/c", "a-/b"), WHERE)
        assert listing.complete


def test_a_file_called_like_a_folders_marker_is_refused(path: Path) -> None:
    with open_listing(path) as listing, pytest.raises(SourceRefused, match="a file and a folder"):
        listing.fill([*listed("a"), ListedObject("a/", 0, '"m"')], WHERE)


@pytest.mark.parametrize("keys", [(), ("",), ("folder/",)])
def test_nothing_but_markers_is_nothing(path: Path, keys: tuple[str, ...]) -> None:
    with open_listing(path) as listing, pytest.raises(SourceRefused, match="no object"):
        listing.fill(listed(*keys, size=0), WHERE)


def test_objects_come_in_the_order_of_their_names_with_what_was_noted(path: Path) -> None:
    keys = [f"{number % 97}/{number}" for number in range(2500)]
    with open_listing(path) as listing:
        listing.fill(listed(*keys), WHERE)
        listing.note_checksums([(b"5/5", {"md5": "00"})])
    with open_listing(path) as listing:
        assert listing.complete
        assert [one.name for one in listing.objects()] == sorted(key.encode() for key in keys)
        found = listing.find(b"5/5")
        assert found is not None
        assert found.checksums == {"md5": "00"}


@pytest.mark.parametrize(
    "now",
    [
        [ListedObject("a", 1, '"0"')],
        [ListedObject("a", 1, '"0"'), ListedObject("b", 2, '"1"')],
        [ListedObject("a", 1, '"0"'), ListedObject("b", 1, '"other"')],
        [ListedObject("a", 1, '"0"'), ListedObject("b", 1, '"1"'), ListedObject("c", 1, '"2"')],
        [ListedObject("a", 1, '"0"'), ListedObject("lone \ud800 surrogate", 1, '"1"')],
    ],
)
def test_a_prefix_that_shows_something_else_has_changed(path: Path, now: list[ListedObject]) -> None:
    with open_listing(path) as listing:
        listing.fill(listed("a", "b"), WHERE)
        listing.compare(listed("a", "b"), WHERE)
        with pytest.raises(SourceChanged):
            listing.compare(now, WHERE)


def test_a_listing_that_broke_off_does_not_count(path: Path) -> None:
    def breaks_off() -> list[ListedObject]:
        raise ConnectionError

    with open_listing(path) as listing, pytest.raises(ConnectionError):
        listing.fill(breaks_off(), WHERE)
    with open_listing(path) as listing:
        assert isinstance(listing, Listing)
        assert not listing.complete
