"""What is read of a bag before it is validated: its fixity and who it says it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dpn.bags.identity import read_identity, tag_manifest_sha256
from dpn.errors import NotABag
from tests.fixtures.made_bags import (
    END,
    UUID,
    bag_files,
    dpn_info,
    header,
    member,
    members,
    tar_bag,
    write_folder,
    write_tar,
)


def test_fixity_is_the_digest_of_the_tag_manifest_wherever_it_lies(tmp_path: Path) -> None:
    files = bag_files()
    wanted = hashlib.sha256(files["tagmanifest-sha256.txt"]).hexdigest()
    assert tag_manifest_sha256(tar_bag(tmp_path, files), UUID) == wanted
    assert tag_manifest_sha256(tar_bag(tmp_path, dict(reversed(files.items()))), UUID) == wanted


@pytest.mark.parametrize(
    "content",
    [
        END,
        members({"data/a": b"1"}) + END,
        member("tagmanifest-sha256.txt", b"x") + END,
        member("other/tagmanifest-sha256.txt", b"x") + END,
        member(f"{UUID}/data/tagmanifest-sha256.txt", b"x") + END,
        member(f"{UUID}/tagmanifest-sha256.txt", kind=b"2") + END,
        member(f"{UUID}/tagmanifest-sha256.txt", kind=b"5") + END,
        members({"data/a": b"1"}) + b"?" * 512 + members(bag_files()) + END,
        header(f"{UUID}/tagmanifest-sha256.txt".encode(), 10**12),
        b"no tar",
    ],
)
def test_a_tar_without_its_tag_manifest_is_not_a_bag(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotABag):
        tag_manifest_sha256(write_tar(tmp_path, content), UUID)


def test_no_such_file_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tag_manifest_sha256(tmp_path / "gone.tar", UUID)
    with pytest.raises(FileNotFoundError):
        read_identity(tmp_path / "gone.tar")


def test_identity_is_read_from_tar_and_folder_alike(tmp_path: Path) -> None:
    files = bag_files()
    identity = read_identity(tar_bag(tmp_path, files))
    assert identity == read_identity(write_folder(tmp_path / UUID, files))
    assert (identity.uuid, identity.version, identity.bag_type, identity.member) == (UUID, 1, "data", None)


@pytest.mark.parametrize(
    "info",
    [
        None,
        b"",
        b"\xff\xfe",
        b"no colon",
        b"A: 1\n" * 300_000,
        dpn_info().replace(b"DPN-Object-ID", b"Object-ID"),
        dpn_info().replace(b"Local-ID: inst.example/thing-1", b"Local-ID:"),
        dpn_info().replace(b"Version-Number: 1", b"Version-Number: one"),
        dpn_info().replace(b"Version-Number: 1", b"Version-Number: 0"),
        dpn_info().replace(b"Version-Number: 1", b"Version-Number: " + b"9" * 5000),
        dpn_info().replace(b"Version-Number: 1", "Version-Number: \u0661".encode()),
    ],
)
def test_a_bag_that_does_not_say_who_it_is_is_refused(tmp_path: Path, info: bytes | None) -> None:
    files = bag_files(changes={"dpn-tags/dpn-info.txt": info})
    with pytest.raises(NotABag):
        read_identity(tar_bag(tmp_path, files))
    with pytest.raises(NotABag):
        read_identity(write_folder(tmp_path / UUID, files))
