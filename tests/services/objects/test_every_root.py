"""What every root promises, tried on a folder and on a bucket."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, ObjectExists, SourceChanged, StoreMismatch, StoreMissing
from dpn.objects.folder.root import FolderRoot
from dpn.objects.keys import KeyRefused
from dpn.objects.root import PartialWrite, Root, WriteOptions
from tests.services.objects.conftest import PART_BYTES, content_of, keys_of, no_chunks, put

LONG = "long/" + "/".join(["x" * 250] * 4)[:1010]
KEYS = [
    "a-b", "a.c", "a/x", "a/y/z", "a0", "-lead", "with blank ", "a#?%41&+", "日本/é", "e\u0301", "A", "b", LONG,
    "..dots/.x..", "\u200bzero", "\U0001f5c4/box",
]  # fmt: skip
IN_ORDER = sorted(KEYS, key=str.encode)
LARGE = random.Random(1).randbytes(2 * PART_BYTES + 12345)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def filled(root: Root) -> Root:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: put(root, key, key.encode()), KEYS))
    return root


def test_whatever_a_key_is_its_object_comes_back_and_is_listed_in_the_order_of_bytes(filled: Root) -> None:
    assert keys_of(filled) == IN_ORDER
    for key in KEYS:
        assert content_of(filled, key) == key.encode()
        assert filled.head(key)
    listed = {info.key: info for info in filled.walk()}
    assert all(listed[key][:1] + listed[key][1:2] == (key, len(key.encode())) for key in KEYS)


def test_a_walk_goes_on_behind_any_key(filled: Root) -> None:
    for number, key in enumerate(IN_ORDER):
        assert keys_of(filled, after=key) == IN_ORDER[number + 1 :]
    assert keys_of(filled, after="a/xx") == [key for key in IN_ORDER if key > "a/xx"]
    assert keys_of(filled, after="a/y") == [key for key in IN_ORDER if key > "a/y"]


def test_a_prefix_is_a_folder_and_not_the_begin_of_a_name(filled: Root) -> None:
    assert keys_of(filled, "a") == ["a/x", "a/y/z"]
    assert keys_of(filled, "a", after="a/x") == ["a/y/z"]
    assert keys_of(filled, "a", after="b") == []
    assert keys_of(filled, "a", after="-lead") == ["a/x", "a/y/z"]
    assert keys_of(filled, "a/x") == keys_of(filled, "nothing/here") == []


def test_a_walk_says_of_an_object_what_a_look_at_it_says(root: Root) -> None:
    put(root, "k", b"12345")
    (listed,) = root.walk()
    looked = root.head("k")
    assert looked is not None
    assert (listed.key, listed.size, listed.tag) == (looked.key, looked.size, looked.tag)
    assert listed.modified_at.utcoffset() is not None
    assert root.head("none") is None
    assert root.head("k/below") is None


def test_what_was_written_is_told_with_its_digests(root: Root) -> None:
    made_at = datetime(2001, 2, 3, 4, 5, 6, 789000, UTC)
    written = put(root, "k", b"12345", algorithms=("md5", "crc64nvme"), modified_at=made_at)
    looked = root.head("k")
    assert looked is not None
    assert written.hashes["sha256"] == sha256(b"12345")
    assert written.hashes["md5"] == hashlib.md5(b"12345", usedforsecurity=False).hexdigest()
    assert (written.tag, written.size, looked.modified_at) == (looked.tag, 5, made_at)
    assert looked.hashes.items() <= written.hashes.items()
    assert written.checked is bool(looked.hashes)


@pytest.mark.parametrize("size", [0, 1, 300_000, len(LARGE)])
def test_any_size_comes_back_whole_and_in_ranges(root: Root, size: int) -> None:
    content = LARGE[:size]
    written = put(root, "k", content)
    assert written.hashes["sha256"] == sha256(content)
    assert content_of(root, "k", tag=written.tag) == content
    if size > 1:
        assert content_of(root, "k", start=1) == content[1:]
        assert content_of(root, "k", start=1, size=size - 2, tag=written.tag) == content[1:-1]
        with root.open("k", start=size - 1, size=1) as opened:
            assert (opened.info.size, opened.info.tag) == (size, written.tag)
            assert b"".join(opened.chunks) == content[-1:]


def test_a_source_that_changed_is_told_and_one_that_is_not_there_too(root: Root) -> None:
    tag = put(root, "k", b"12345").tag
    put(root, "k", b"other")
    with pytest.raises(SourceChanged):
        content_of(root, "k", tag=tag)
    with pytest.raises(SourceChanged):
        content_of(root, "k", start=3, size=9_000)
    with pytest.raises(StoreMissing):
        content_of(root, "none")
    with pytest.raises(StoreMissing):
        content_of(root, "k/below")


@pytest.mark.parametrize("size", [3, len(LARGE)])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_stream_of_another_size_becomes_nothing(root: Root, size: int, difference: int) -> None:
    told: list[PartialWrite | None] = []
    with pytest.raises(SourceChanged):
        root.write("k", iter([(LARGE + b"more")[: size + difference]]), size, WriteOptions(checkpoint=told.append))
    assert keys_of(root) == []
    assert told[-1:] in ([], [None])


@pytest.mark.parametrize("size", [3, len(LARGE)])
def test_bytes_that_are_not_the_expected_ones_become_nothing(root: Root, size: int) -> None:
    content = LARGE[:size]
    with pytest.raises(StoreMismatch, match="sha256"):
        put(root, "k", content, expected={"sha256": sha256(b"else")})
    assert keys_of(root) == []
    assert put(root, "k", content, expected={"sha256": sha256(content).upper()}).size == size


@pytest.mark.parametrize("size", [3, len(LARGE)])
def test_what_must_not_be_replaced_stays(root: Root, size: int) -> None:
    first = put(root, "k", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        put(root, "k", LARGE[:size], if_absent=True)
    with pytest.raises(ObjectExists):
        put(root, "k", LARGE[:size], if_tag="0-0-0")
    with pytest.raises(ObjectExists):
        put(root, "none", LARGE[:size], if_tag=first.tag)
    assert content_of(root, "k") == b"first"
    put(root, "k", LARGE[:size], if_tag=first.tag)
    assert content_of(root, "k") == LARGE[:size]
    assert keys_of(root) == ["k"]


def test_of_several_writers_one_wins_and_nothing_is_mixed(root: Root) -> None:
    put(root, "before", b"x", if_absent=True)
    contents = [bytes([number]) * 1000 for number in range(6)]
    started = threading.Barrier(len(contents))

    def write(content: bytes) -> bool:
        def chunks() -> Iterator[bytes]:
            yield content[:500]
            started.wait(60)
            yield content[500:]

        try:
            root.write("k", chunks(), len(content), WriteOptions(if_absent=True))
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(len(contents)) as pool:
        won = list(pool.map(write, contents))
    assert content_of(root, "k") in [content for content, one_won in zip(contents, won, strict=True) if one_won]
    if isinstance(root, FolderRoot):  # versitygw looks whether something is there, and then writes
        assert sum(won) == 1


def test_a_stream_that_breaks_leaves_what_was_there(root: Root) -> None:
    put(root, "k", b"before")

    def broken() -> Iterator[bytes]:
        yield b"12"
        raise OSError(28, "the source's own trouble")

    with pytest.raises(OSError, match="the source's own"):
        root.write("k", broken(), 5, WriteOptions())
    stopped = Cancellation()
    stopped.cancel(Interrupted("stop"))
    with pytest.raises(Interrupted):
        put(root, "k", b"12345", cancellation=stopped)
    with pytest.raises(Interrupted):
        content_of(root, "k", cancellation=stopped)
    assert content_of(root, "k") == b"before"
    assert keys_of(root) == ["k"]


@pytest.mark.parametrize("key", ["../out", "/etc/x", "a//b", "a/./b", "nul\0", "", "x" * 1025])
def test_a_key_that_no_object_may_have_is_refused_everywhere(root: Root, key: str) -> None:
    for call in (
        lambda: root.head(key),
        lambda: content_of(root, key),
        lambda: root.write(key, no_chunks(), 0, WriteOptions()),
        lambda: root.remove(key),
    ):
        with pytest.raises(KeyRefused):
            call()


def test_an_object_is_removed_if_it_is_the_one(root: Root) -> None:
    written = put(root, "a/k")
    with pytest.raises(SourceChanged):
        root.remove("a/k", tag="0-0-0")
    assert root.remove("a/k", tag=written.tag)
    assert not root.remove("a/k")
    assert not root.remove("a/k", tag=written.tag)
    assert keys_of(root) == []
