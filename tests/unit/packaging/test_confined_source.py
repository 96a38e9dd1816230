"""A source is read where it lies: a link that comes and goes on the way to it is noticed, or leads nowhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpn.bags.errors import BagChanged
from dpn.packaging.confined_source import confined
from dpn.packaging.errors import SourceUnavailable
from dpn.packaging.estimate import estimate
from dpn.packaging.package import package
from dpn.packaging.settings import DepositS3Settings
from tests.fixtures.deposits import described, payload

CLOCK_TICK_SECONDS = 0.02
"""Longer than file systems take for a moment."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads" / "mine" / "source"
    (folder / "sub" / "deeper").mkdir(parents=True)
    (folder / "sub" / "deeper" / "f").write_bytes(b"mine")
    secrets = tmp_path / "secrets" / "source" / "sub" / "deeper"
    secrets.mkdir(parents=True)
    (secrets / "f").write_bytes(b"hush")
    return folder


def swap(path: Path, secrets: Path) -> Callable[[], None]:
    """A link in the folder's place; returns what makes everything look as it was, as far as its owner can."""
    times = path.parent.stat()
    path.rename(path.with_name("aside"))
    path.symlink_to(secrets)

    def back() -> None:
        path.unlink()
        path.with_name("aside").rename(path)
        os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))

    return back


@pytest.mark.parametrize("swapped", ["source", "source/sub", "source/sub/deeper"])
@pytest.mark.parametrize("and_back", [False, True])
def test_a_link_in_place_of_the_source_or_in_it_is_noticed_even_if_it_is_gone_again(
    tmp_path: Path, source: Path, swapped: str, and_back: bool
) -> None:
    with confined(source) as (held, require_unmoved):
        time.sleep(CLOCK_TICK_SECONDS)
        back = swap(source.parent / swapped, tmp_path / "secrets" / swapped)
        assert (Path(held) / "sub" / "deeper" / "f").read_bytes() == b"hush"
        if and_back:
            back()
        with pytest.raises(BagChanged, match="was moved or changed"):
            require_unmoved()


def test_what_is_said_names_the_source_and_not_how_it_is_held(tmp_path: Path, source: Path) -> None:
    def read() -> None:
        with confined(source) as (_, require_unmoved):
            swap(source, tmp_path / "secrets")
            require_unmoved()

    with pytest.raises(BagChanged) as raised:
        read()
    assert str(source) in str(raised.value)
    assert "/proc/" not in str(raised.value)


def test_a_link_above_the_source_leads_nobody_astray(tmp_path: Path, source: Path) -> None:
    with confined(source) as (held, require_unmoved):
        swap(source.parent, tmp_path / "secrets")
        assert (source / "sub" / "deeper" / "f").read_bytes() == b"hush"
        assert (Path(held) / "sub" / "deeper" / "f").read_bytes() == b"mine"
        require_unmoved()


def test_a_link_that_was_there_before_is_not_followed(tmp_path: Path, source: Path) -> None:
    swap(source.parent, tmp_path / "secrets")
    with pytest.raises(BagChanged), confined(source):
        pass


def test_others_may_come_and_go_beside_the_source(source: Path) -> None:
    with confined(source) as (_, require_unmoved):
        time.sleep(CLOCK_TICK_SECONDS)
        (source.parent / "another").mkdir()
        (source / "sub" / "deeper" / "f").read_bytes()
        require_unmoved()


def test_a_confined_source_is_the_same_bag(tmp_path: Path, source: Path) -> None:
    bags = []
    for name in ("one", "two"):
        work = tmp_path / name
        work.mkdir()
        with confined(source) as (held, require_unmoved):
            path = held if name == "one" else str(source)
            assert estimate(described(path), s3=DepositS3Settings()).files
            bags.append(package(described(path), work, s3=DepositS3Settings()))
            require_unmoved()
    assert bags[0].sha256 == bags[1].sha256
    assert payload(bags[0].path) == {"sub/deeper/f": b"mine"}


def test_a_tar_is_confined_too(tmp_path: Path) -> None:
    (tmp_path / "bag.tar").write_bytes(b"mine")
    (tmp_path / "secret.tar").write_bytes(b"hush")
    with confined(tmp_path / "bag.tar") as (held, require_unmoved):
        time.sleep(CLOCK_TICK_SECONDS)
        back = swap(tmp_path / "bag.tar", tmp_path / "secret.tar")
        assert Path(held).read_bytes() == b"hush"
        back()
        with pytest.raises(BagChanged):
            require_unmoved()


def test_errors_name_the_source_as_its_depositor_does(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionError) as raised, confined(source) as (held, _):
        raise PermissionError(13, "Permission denied", f"{held}/sub".encode())
    assert raised.value.filename == f"{source}/sub"
    really = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("/sub"):
            raise PermissionError(13, "Permission denied", path)
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceUnavailable, match=f"{source}/sub.*let the user") as away, confined(source):
        pass
    assert "/proc/" not in str(away.value)
