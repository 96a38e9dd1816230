"""A good bag that GNU tar packed in a way that no bag may have: what is told says in which, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dpn.bags.errors import NotABag
from dpn.bags.identity import read_identity
from dpn.bags.report import Report
from dpn.bags.validation.validation import validate
from tests.fixtures.made_bags import UUID, bag_files, write_folder

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")

HOLE = {"data/hole": bytes(1 << 20)}


def packed(tmp_path: Path, *options: str, payload: dict[str, bytes] | None = None) -> Path:
    """With two names of one file, and a hole where there are zeros."""
    files = bag_files({"data/a.txt": b"one\n", "data/sub/b.txt": b"one\n", **(payload or {})})
    bag = write_folder(tmp_path / UUID, files)
    (bag / "data/sub/b.txt").unlink()
    (bag / "data/sub/b.txt").hardlink_to(bag / "data/a.txt")
    if payload is not None:
        os.truncate(bag / "data/hole", 0)
        os.truncate(bag / "data/hole", 1 << 20)
    given = [option.replace("SNAPSHOT", str(tmp_path / "snapshot")) for option in options]
    subprocess.run(["tar", "-c", "--sort=name", *given, "-f", f"{UUID}.tar", UUID], cwd=tmp_path, check=True)
    return tmp_path / f"{UUID}.tar"


def judged(path: Path) -> Report:
    report = validate(path, profile=None)
    assert validate(path, profile=None, whole_file_sha256=True).findings == report.findings
    return report


def test_packed_plainly_it_is_valid(tmp_path: Path) -> None:
    assert judged(packed(tmp_path, "--hard-dereference")).findings == ()


@pytest.mark.parametrize(
    ("options", "code", "remedy"),
    [
        ((), "tar-link", "--hard-dereference"),
        (("--format=posix",), "tar-link", "--hard-dereference"),
        (("--hard-dereference", "--label=a label"), "tar-special", "--label"),
        (("--hard-dereference", "--listed-incremental=SNAPSHOT"), "tar-ambiguous", "--listed-incremental"),
        (("--hard-dereference", "--incremental"), "tar-ambiguous", "incremental"),
        (("--hard-dereference", "--sparse"), "tar-sparse", "--sparse"),
        (("--hard-dereference", "--sparse", "--format=posix"), "tar-sparse", "--sparse"),
    ],
)
def test_what_no_bag_may_hold_is_told_once_with_its_remedy(
    tmp_path: Path, options: tuple[str, ...], code: str, remedy: str
) -> None:
    report = judged(packed(tmp_path, *options, payload=HOLE if "--sparse" in options else None))
    assert [(finding.code, remedy in finding.message) for finding in report.findings] == [(code, True)]


def test_a_hard_link_is_told_with_the_name_that_has_its_content(tmp_path: Path) -> None:
    (finding,) = judged(packed(tmp_path)).findings
    assert (finding.path, f"another name of {UUID}/data/a.txt" in finding.message) == (
        f"{UUID}/data/sub/b.txt",
        True,
    )


def test_the_rest_of_a_file_from_another_archive_is_told(tmp_path: Path) -> None:
    bag = write_folder(tmp_path / UUID, bag_files({"data/big": bytes(range(256)) * 12_000}))
    volumes = "".join(f"n {number}.tar\n" for number in range(2, 9))
    command = ["tar", "-c", "-M", "-L", "1000", "-f", "1.tar", bag.name]
    subprocess.run(command, cwd=tmp_path, input=volumes, text=True, check=True, capture_output=True)
    (tmp_path / "2.tar").rename(tmp_path / f"{UUID}.tar")
    first = judged(tmp_path / f"{UUID}.tar").findings[0]
    assert (first.code, "--multi-volume" in first.message) == ("tar-special", True)


def test_a_symbolic_link_is_told_and_its_content_is_missing(tmp_path: Path) -> None:
    bag = write_folder(tmp_path / UUID, bag_files({"data/a.txt": b"one\n", "data/b.txt": b"one\n"}))
    (bag / "data/b.txt").unlink()
    (bag / "data/b.txt").symlink_to("a.txt")
    subprocess.run(["tar", "-c", "-f", f"{UUID}.tar", UUID], cwd=tmp_path, check=True)
    assert [finding.code for finding in judged(tmp_path / f"{UUID}.tar").findings] == [
        "tar-link",
        "payload-file-missing",
    ]


def test_who_a_dump_says_that_it_is_is_not_guessed_and_why_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotABag, match="incremental"):
        read_identity(packed(tmp_path, "--listed-incremental=SNAPSHOT"))
