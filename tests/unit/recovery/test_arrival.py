"""What came is the bag that was asked for only if everything says so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dpn.bags.identity import tag_manifest_sha256
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.settings import ValidationSettings
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted
from dpn.recovery.arrival import UNPROVEN, Judged, judge_received
from tests.fixtures.made_bags import UUID, bag_files, checksums, tar_bag, write_tar

OTHER = "00000000-0000-4000-a000-000000000001"
VALIDATION = ValidationSettings(threads=1)


def judge(
    path: Path, *, like: Path, size: int | None = 0, digest: str | None = "", profile: str = "dpn", **more: Any
) -> Judged:
    return judge_received(
        path,
        bag=UUID,
        size=like.stat().st_size if size == 0 else size,
        tag_manifest_sha256=tag_manifest_sha256(like, UUID) if digest == "" else digest,
        profile=load_profile(profile),
        validation=VALIDATION,
        cancellation=Cancellation(),
        **more,
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good").mkdir()
    return tar_bag(tmp_path / "good")


def test_the_bag_itself_is_good(good: Path) -> None:
    judged = judge(good, like=good)
    assert judged.good
    assert judged.validation.valid
    assert judge(good, like=good, digest=tag_manifest_sha256(good, UUID).upper()).good


def test_another_valid_bag_under_its_name_is_found_by_its_digest_and_by_what_it_says(tmp_path, good) -> None:
    other = tar_bag(tmp_path, bag_files(uuid=OTHER))
    judged = judge(other, like=good, profile="none")
    assert judged.validation.valid, judged
    assert [problem.split(" ")[0] for problem in judged.problems] == ["it", "its"]
    assert f"says that it is bag '{OTHER}'" in judged.problems[0]
    assert "digest" in judged.problems[1]


def test_an_older_or_newer_content_of_the_same_bag_is_not_the_bag(tmp_path, good) -> None:
    other = tar_bag(tmp_path, bag_files({"data/a.txt": b"other\n"}))
    assert "registered is" in judge(other, like=good, size=None).problems[-1]


@pytest.mark.parametrize("change", ["flip", "cut", "not a tar", "longer"])
def test_damage_is_told(tmp_path: Path, good: Path, change: str) -> None:
    content = good.read_bytes()
    changed = {
        "flip": content.replace(b"first\n", b"fixst\n"),
        "cut": content[: len(content) // 2],
        "not a tar": b"<html>",
        "longer": content + bytes(512),
    }[change]
    assert not judge(write_tar(tmp_path, changed), like=good).good


def test_without_a_registered_digest_nothing_is_proven(good: Path) -> None:
    assert judge(good, like=good, digest=None).problems == (
        "our registry has no digest of its tag manifest: nothing shows that it is the bag",
    )


def test_a_payload_that_the_digest_does_not_prove_is_only_taken_where_the_file_is_known(tmp_path: Path) -> None:
    """Whoever hands it back may have changed payload and payload manifest, and the digest would be the same."""
    files = bag_files()
    listed = files["tagmanifest-sha256.txt"].splitlines(keepends=True)
    files["tagmanifest-sha256.txt"] = b"".join(line for line in listed if b"manifest-" not in line)
    changed = {"data/a.txt": b"fixst\n", "data/folder/b.bin": files["data/folder/b.bin"]}
    swapped = {**files, **changed, "manifest-sha256.txt": checksums(changed, "sha256")}
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = tar_bag(tmp_path / "ours", files), tar_bag(tmp_path / "theirs", swapped)
    sha256 = hashlib.sha256(ours.read_bytes()).hexdigest()
    for path in (ours, theirs):
        assert judge(path, like=ours).problems == (UNPROVEN,)
        assert judge(path, like=ours).validation.payload_proven is False
    assert judge(ours, like=ours, known_sha256=sha256).good
    assert judge(ours, like=ours, known_sha256=sha256).validation.payload_proven
    assert judge(theirs, like=ours, known_sha256=sha256).problems == (UNPROVEN,)
    assert judge(ours, like=ours, accept_unproven=True).good


def test_a_disk_that_fails_and_a_stop_are_no_verdict(tmp_path: Path, good: Path) -> None:
    with pytest.raises(FileNotFoundError):
        judge(tmp_path / "gone.tar", like=good)
    stopped = Cancellation()
    stopped.cancel(Interrupted("stop"))
    with pytest.raises(Interrupted):
        judge_received(
            good,
            bag=UUID,
            size=None,
            tag_manifest_sha256="00",
            profile=None,
            validation=VALIDATION,
            cancellation=stopped,
        )
