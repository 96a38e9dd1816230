"""What packaging waits for instead of failing: room, and permission to read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dpn.errors import NoSpace
from dpn.packaging.description import Description
from dpn.packaging.errors import SourceUnavailable
from dpn.packaging.estimate import estimate
from dpn.packaging.package import package
from dpn.packaging.s3.listing import open_listing
from dpn.packaging.settings import DepositS3Settings
from dpn.s3.pages import ListedObject
from tests.fixtures.deposits import described
from tests.fixtures.made_bags import bag_files, tar_bag

S3 = DepositS3Settings()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def forbid(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As a user that may not read it."""
    for name in ("open", "scandir"):
        monkeypatch.setattr(os, name, _refusing(getattr(os, name), path))


def _refusing(call: Callable[..., object], path: Path) -> Callable[..., object]:
    def refusing(asked: str | bytes | Path, *more: object, **further: object) -> object:
        if not isinstance(asked, int) and os.fsdecode(asked) == str(path):
            raise PermissionError(13, "Permission denied", asked)
        return call(asked, *more, **further)

    return refusing


@pytest.mark.parametrize("asked", ["estimate", "package"])
@pytest.mark.parametrize("kind", ["folder", "tar", "as it is"])
def test_permission_to_read_a_source_is_waited_for_and_asked_of_who_can_give_it(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch, kind: str, asked: str
) -> None:
    if kind == "folder":
        source = tmp_path / "source"
        (source / "sub").mkdir(parents=True)
        forbidden = source / "sub"
    else:
        source = forbidden = tar_bag(tmp_path, bag_files())
    description = described(source, as_is=kind == "as it is")
    forbid(monkeypatch, forbidden)
    with pytest.raises(SourceUnavailable, match="let the user that runs the workers read it") as away:
        estimate(description, s3=S3) if asked == "estimate" else package(description, work, s3=S3)
    assert str(forbidden) in str(away.value)
    assert away.value.service == f"source:{source}"


def test_permission_for_what_is_not_the_source_is_another_matter(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"x")
    forbid(monkeypatch, work)
    with pytest.raises(PermissionError):
        package(described(tmp_path / "source"), work, s3=S3)


def test_room_for_a_listing_is_waited_for(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(description: Description, folder: Path, *_: object) -> None:
        with open_listing(folder / "listing.sqlite") as listing:
            listing._connection.execute("PRAGMA max_page_count=20")  # a disk with no more
            listing.fill((ListedObject(f"k{number:06}", 1, '"e"') for number in range(5000)), "there")

    monkeypatch.setitem(package.__globals__, "_build", build)
    with pytest.raises(NoSpace, match="full: free space on this volume"):
        package(described("s3://bucket/prefix/"), work, s3=S3)


def test_a_listing_that_is_damaged_is_not_mistaken_for_a_full_disk(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setitem(package.__globals__, "_build", build)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        package(described("s3://bucket/prefix/"), work, s3=S3)
