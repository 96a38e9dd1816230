"""What may be deposited: judged before anything starts, with what, where and remedy for what may not."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from dpn.bags import load_profile, validate
from dpn.cli.demo.errors import Unusable
from dpn.cli.demo.sources import SAMPLE, Deposit, check_apart, make_sample, take_all

RECORD_FIELDS = ("local_id", "version", "bag_type", "ingest_node", "admin_node")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return tmp_path / "built"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "annual reports"
    folder.mkdir()
    (folder / "2023.txt").write_text("profit", encoding="utf-8")
    return folder


def take(built: Path, *sources: Path) -> list[Deposit]:
    return take_all([str(source) for source in sources], built, node="north")


def test_a_folder_becomes_a_valid_bag_named_after_it(folder: Path, built: Path) -> None:
    (deposit,) = take(built, folder)
    assert validate(deposit.tar, profile=load_profile("dpn")).valid
    assert deposit.tar.parent == built
    assert deposit.source == str(folder)
    assert [getattr(deposit.record, field) for field in RECORD_FIELDS] == [
        "annual reports",
        1,
        "D",
        "north",
        "north",
    ]
    assert deposit.record.replicating_nodes == ("north",)


def test_a_valid_bag_is_taken_as_it_is(folder: Path, built: Path, tmp_path: Path) -> None:
    (first,) = take(built, folder)
    given = first.tar.rename(tmp_path / first.tar.name)
    before = given.read_bytes()
    (deposit,) = take(built, given)
    assert (deposit.tar, deposit.uuid) == (given, first.uuid)
    assert deposit.sha256 == hashlib.sha256(before).hexdigest()
    assert given.read_bytes() == before


def test_without_a_source_there_is_a_sample_with_what_real_deposits_have(built: Path) -> None:
    (deposit,) = take(built)
    assert deposit.source == SAMPLE
    assert deposit.size > 2_000_000
    with tarfile.open(deposit.tar) as tar:
        payload = [member for member in tar.getmembers() if "/data/" in member.name and member.isfile()]
    assert len(payload) >= 5
    assert any(member.size == 0 for member in payload)
    assert any(not member.name.isascii() for member in payload)


def test_the_sample_is_the_same_every_time(tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(make_sample(tmp_path / "a")) == content(make_sample(tmp_path / "b"))


def test_what_is_not_there_is_refused(built: Path, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="nowhere: No such file or directory: name a folder or a bag"):
        take(built, tmp_path / "nowhere")


def test_what_is_neither_file_nor_folder_is_refused_and_not_waited_for(built: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unusable, match="neither a folder nor a file"):
        take(built, tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"just a text", os.urandom(20_000)])
def test_a_file_that_is_no_bag_is_refused(built: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "something.tar"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=r"something\.tar: not a"):
        take(built, path)


def test_a_bag_that_is_not_valid_is_refused_with_its_first_errors(
    folder: Path, built: Path, tmp_path: Path
) -> None:
    (first,) = take(built, folder)
    damaged = tmp_path / first.tar.name
    damaged.write_bytes(first.tar.read_bytes().replace(b"profit", b"losses"))
    with pytest.raises(Unusable, match=r"not a valid DPN bag: .*2023\.txt") as refusal:
        take(built, damaged)
    assert "dpn bag validate" in str(refusal.value)


def test_a_folder_with_nothing_in_it_is_refused(built: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unusable, match="there is no file in"):
        take(built, tmp_path / "empty")


def test_a_folder_with_a_link_in_it_is_refused(folder: Path, built: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(Unusable, match="symbolic link"):
        take(built, folder)


def test_a_bag_that_is_given_twice_is_refused(folder: Path, built: Path) -> None:
    (first,) = take(built, folder)
    with pytest.raises(Unusable, match="the same bag: give each bag once"):
        take(built, first.tar, first.tar)


@pytest.mark.parametrize("inside", [".", "north/deposits", ".."])
def test_a_source_in_the_work_folder_or_around_it_is_refused(tmp_path: Path, inside: str) -> None:
    workdir = tmp_path / "work"
    with pytest.raises(Unusable, match="keep the two apart"):
        check_apart([str(workdir / inside)], workdir)
    check_apart([str(tmp_path / "workshop")], workdir)


def test_the_same_folder_twice_makes_two_bags(folder: Path, built: Path) -> None:
    one, other = take(built, folder, folder)
    assert one.uuid != other.uuid
