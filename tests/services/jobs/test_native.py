"""One object from one root to another: whole and proven, or the error says why, and nothing was replaced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import Interrupted, ObjectExists, SourceChanged, StoreMismatch, StoreMissing
from dpn.jobs.native import Proof, Wish, copy_object
from dpn.jobs.rules import Overwrite, Verification
from dpn.objects.root import OpenObject, PartialWrite, Root, WriteOptions
from dpn.objects.roots import open_root
from dpn.objects.settings import RootSettings
from tests.conftest import Bucket

CLOCK = ManualClock()
CONTENT = os.urandom(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PART_BYTES = 8 << 20

Opened = Callable[[str, str], Root]


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Opened:
    """Opens a root of a kind and name."""

    def open_(kind: str, name: str) -> Root:
        if kind == "folder":
            (tmp_path / name).mkdir()
            return open_root(name, RootSettings(url=f"file://{tmp_path / name}"))
        bucket: Bucket = request.getfixturevalue("s3_bucket")
        settings = RootSettings(
            url=f"s3://{bucket.name}/{name}",
            endpoint_url=bucket.endpoint,
            access_key_id=bucket.access_key,
            secret_access_key=SecretStr(bucket.secret_key),
        )
        return open_root(name, settings)

    return open_


def put(root: Root, key: str, content: bytes = CONTENT) -> None:
    root.write(key, [content], len(content), WriteOptions())


def content(root: Root, key: str) -> bytes:
    with root.open(key) as opened:
        return b"".join(opened.chunks)


@pytest.mark.parametrize(
    ("source", "target"), [("folder", "folder"), ("folder", "s3"), ("s3", "folder"), ("s3", "s3")]
)
def test_a_copy_has_the_bytes_and_a_receipt_of_them(opened: Opened, source: str, target: str) -> None:
    here, there = opened(source, "here"), opened(target, "there")
    key = "a b/é#?%/-x"
    put(here, key)
    read: list[int] = []
    receipt = copy_object(here, there, Wish(key, "copy/" + key, progress=read.append), CLOCK)
    assert content(there, "copy/" + key) == CONTENT
    assert (receipt.root, receipt.key, receipt.size, receipt.sha256) == ("there", "copy/" + key, 100_000, SHA256)
    assert (receipt.confirmed_by, receipt.copied, sum(read)) == ("read-back", True, 100_000)
    again = copy_object(here, there, Wish(key, "copy/" + key), CLOCK)
    assert not again.copied or source == target == "s3", "it counts as there"


@pytest.mark.parametrize(
    ("target", "verify", "proof"),
    [
        ("folder", Verification.NONE, "nothing"),
        ("folder", Verification.SIZE, "size"),
        ("folder", Verification.CHECKSUM, "read-back"),
        ("folder", Verification.FULL_READ, "read-back"),
        ("s3", Verification.SIZE, "size"),
        ("s3", Verification.CHECKSUM, "store-checksum"),
        ("s3", Verification.FULL_READ, "read-back"),
    ],
)
def test_a_copy_is_confirmed_as_it_was_asked(
    opened: Opened, target: str, verify: Verification, proof: Proof
) -> None:
    here, there = opened("folder", "here"), opened(target, "there")
    put(here, "a")
    assert copy_object(here, there, Wish("a", "a", verify=verify), CLOCK).confirmed_by == proof


def test_what_is_missing_or_not_as_expected_replaces_nothing(opened: Opened) -> None:
    here, there = opened("folder", "here"), opened("folder", "there")
    put(here, "a")
    put(there, "a", b"older")
    for wish, error in (
        (Wish("b", "a"), StoreMissing),
        (Wish("a", "a", size=7), SourceChanged),
        (Wish("a", "a", expected={"sha256": "0" * 64}), StoreMismatch),
        (Wish("a", "a", overwrite=Overwrite.NEVER), ObjectExists),
    ):
        with pytest.raises(error):
            copy_object(here, there, wish, CLOCK)
        assert content(there, "a") == b"older"
    copy_object(here, there, Wish("a", "a", size=100_000, expected={"sha256": SHA256.upper()}), CLOCK)
    assert content(there, "a") == CONTENT


class Disturbed:
    """A root of which something is different."""

    def __init__(self, root: Root, opening: Callable[[OpenObject], Iterator[bytes]]) -> None:
        self._root = root
        self._opening = opening

    def __getattr__(self, name: str) -> Any:
        return getattr(self._root, name)

    @contextmanager
    def open(self, key: str, **options: Any) -> Iterator[OpenObject]:
        with self._root.open(key, **options) as opened:
            yield replace(opened, chunks=self._opening(opened))


def test_a_copy_that_reads_back_as_something_else_is_told(opened: Opened) -> None:
    def damage(opened: OpenObject) -> Iterator[bytes]:
        for chunk in opened.chunks:
            yield b"!" + chunk[1:]

    here, there = opened("folder", "here"), opened("folder", "there")
    put(here, "a")
    liar: Any = Disturbed(there, damage)
    with pytest.raises(StoreMismatch, match="read back"):
        copy_object(here, liar, Wish("a", "a"), CLOCK)


@pytest.mark.parametrize("change", ["longer", "shorter", "other"])
def test_a_source_that_changes_while_it_is_read_is_not_half_copied(
    opened: Opened, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "here" / "a"

    def disturb(opened: OpenObject) -> Iterator[bytes]:
        for number, chunk in enumerate(opened.chunks):
            yield chunk
            if number == 0:
                new = {"longer": CONTENT * 2, "shorter": CONTENT[:10], "other": os.urandom(len(CONTENT))}[change]
                path.write_bytes(new)

    here, there = opened("folder", "here"), opened("folder", "there")
    put(here, "a", CONTENT * 10)
    changing: Any = Disturbed(here, disturb)
    with pytest.raises(SourceChanged):
        copy_object(changing, there, Wish("a", "a"), CLOCK)
    assert there.head("a") is None


def test_a_large_copy_goes_on_with_the_parts_that_the_target_has(opened: Opened) -> None:
    """Its worker was stopped in the middle."""
    here, there = opened("folder", "here"), opened("s3", "there")
    large = os.urandom(3 * PART_BYTES)
    put(here, "a", large)
    told: list[PartialWrite] = []
    cancellation = Cancellation()

    def checkpoint(partial: PartialWrite | None) -> None:
        if partial is not None and partial.parts:
            told.append(partial)
            cancellation.cancel(Interrupted("the worker stops"))

    with pytest.raises(Interrupted):
        copy_object(here, there, Wish("a", "a", checkpoint=checkpoint, cancellation=cancellation), CLOCK)
    assert there.head("a") is None
    receipt = copy_object(here, there, Wish("a", "a", resume=told[-1]), CLOCK)
    assert receipt.sha256 == hashlib.sha256(large).hexdigest()
    assert content(there, "a") == large
