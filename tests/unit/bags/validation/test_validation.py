"""What a validation promises beside its verdict: progress, cancellation, errors of the disk, the report's form."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dpn.bags import folder_contents as folder_contents_module
from dpn.bags.codes import CATALOGUE, Severity
from dpn.bags.errors import BagChanged
from dpn.bags.findings import Findings
from dpn.bags.tar import file as tar_source_module
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, NotABag
from tests.fixtures.made_bags import UUID, bag_files, tar_bag, write_folder

MEBIBYTE = 1 << 20
BIG = {f"data/{number}": bytes([number]) * (8 * MEBIBYTE) for number in range(6)}


def test_the_report_counts_files_and_payload_and_gives_both_digests(tmp_path: Path) -> None:
    files = bag_files()
    path = tar_bag(tmp_path, files)
    report = validate(path, profile=load_profile("dpn"), whole_file_sha256=True)
    assert report.valid
    assert report.files == len(files)
    assert report.bytes == sum(len(content) for name, content in files.items() if name.startswith("data/"))
    assert report.tag_manifest_sha256 == hashlib.sha256(files["tagmanifest-sha256.txt"]).hexdigest()
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.first_error is None
    document = report.to_json()
    assert {key: document[key] for key in ("path", "valid", "profile", "files", "bytes")} == {
        "path": str(path), "valid": True, "profile": "dpn", "files": 7, "bytes": 1286,
    }  # fmt: skip
    assert document["findings"] == []
    assert validate(path, profile=None).sha256 is None


def test_a_folder_is_judged_like_a_tar(tmp_path: Path) -> None:
    files = bag_files()
    folder = write_folder(tmp_path / UUID, files)
    assert validate(folder, profile=load_profile("dpn")).findings == ()
    (folder / "data/a.txt").write_bytes(b"other\n")
    (folder / "data/new").write_bytes(b"x")
    (folder / "bag-info.txt").unlink()
    report = validate(folder, profile=None)
    assert {(finding.code, finding.path) for finding in report.findings} == {
        ("payload-checksum-mismatch", "data/a.txt"),
        ("payload-file-unlisted", "data/new"),
        ("tag-file-missing", "bag-info.txt"),
    }


def test_links_and_pipes_in_a_folder_are_findings_and_never_followed(tmp_path: Path) -> None:
    files = bag_files()
    folder = write_folder(tmp_path / UUID, files)
    (folder / "data/a.txt").unlink()
    (tmp_path / "outside").write_bytes(files["data/a.txt"])
    (folder / "data/a.txt").symlink_to(tmp_path / "outside")
    (folder / "data/loop").symlink_to(folder)
    os.mkfifo(folder / "data/pipe")
    codes = {finding.code for finding in validate(folder, profile=None).findings}
    assert codes == {"folder-link", "folder-special", "payload-file-missing"}


def test_names_in_a_folder_need_not_be_utf8_to_be_reported(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / UUID, bag_files())
    name = os.fsencode(folder) + b"/data/\xff"
    with open(name, "wb"):  # noqa: PTH123 - bytes
        pass
    found = {finding.code: finding.path for finding in validate(folder, profile=None).findings}
    assert found["name-not-utf8"] == "data/\\xff"


def test_no_such_file_is_an_error_of_the_disk_not_a_verdict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        validate(tmp_path / "gone.tar", profile=None)


@pytest.mark.parametrize("whole", [False, True])
def test_a_read_error_is_raised_and_never_called_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    path = tar_bag(tmp_path, bag_files(BIG))
    broken_at = path.stat().st_size // 2
    really = os.preadv

    def failing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset >= broken_at:
            raise OSError(5, "Input/output error")
        return really(fd, buffers, offset)

    monkeypatch.setattr(tar_source_module.os, "preadv", failing)
    with pytest.raises(OSError, match="Input/output error"):
        validate(path, profile=None, whole_file_sha256=whole, threads=3)


@pytest.mark.parametrize("whole", [False, True])
def test_a_tar_that_is_written_to_meanwhile_gets_no_verdict(tmp_path: Path, whole: bool) -> None:
    path = tar_bag(tmp_path, bag_files(BIG))

    def touch(_bytes: int, _files: int) -> None:
        os.utime(path, ns=(1, 1))

    with pytest.raises(BagChanged):
        validate(path, profile=None, whole_file_sha256=whole, progress=touch)


@pytest.mark.parametrize("whole", [False, True])
def test_a_tar_that_shrinks_meanwhile_gets_no_verdict(tmp_path: Path, whole: bool) -> None:
    path = tar_bag(tmp_path, bag_files(BIG))

    def shrink(_bytes: int, _files: int) -> None:
        os.truncate(path, 1000)

    with pytest.raises(BagChanged):
        validate(path, profile=None, whole_file_sha256=whole, progress=shrink, threads=1)


@pytest.mark.parametrize("whole", [False, True])
def test_cancelling_ends_the_reading_with_the_error_given(tmp_path: Path, whole: bool) -> None:
    path = tar_bag(tmp_path, bag_files(BIG))
    cancellation = Cancellation()
    seen: list[int] = []

    def cancel_soon(done: int, _files: int) -> None:
        seen.append(done)
        cancellation.cancel(Interrupted("stop"))

    with pytest.raises(Interrupted, match="stop"):
        validate(path, profile=None, whole_file_sha256=whole, progress=cancel_soon, cancellation=cancellation)
    assert len(seen) == 1  # not asked again after it has spoken


def test_a_folder_can_be_cancelled_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / UUID, bag_files(BIG))
    cancellation = Cancellation()
    with pytest.raises(Interrupted):
        validate(
            folder,
            profile=None,
            progress=lambda *_: cancellation.cancel(Interrupted("stop")),
            cancellation=cancellation,
            threads=1,
        )


@pytest.mark.parametrize("whole", [False, True])
def test_progress_only_grows_and_ends_with_everything(tmp_path: Path, whole: bool) -> None:
    files = bag_files(BIG)
    path = tar_bag(tmp_path, files)
    seen: list[tuple[int, int]] = []
    validate(path, profile=None, whole_file_sha256=whole, progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1][1] == len(files)
    assert seen[-1][0] >= sum(map(len, BIG.values()))


def test_strict_makes_errors_of_warnings(tmp_path: Path) -> None:
    path = tar_bag(tmp_path, {**bag_files(), "stray": b"x"})
    assert validate(path, profile=None).valid
    strict = validate(path, profile=None, strict=True)
    assert not strict.valid
    assert strict.first_error is not None
    assert strict.first_error.code == "tag-file-unlisted"


def test_errors_come_first_whatever_was_found_first() -> None:
    findings = Findings()
    for number in range(600):
        findings.add("tag-file-unlisted", "warning", str(number))
    findings.add("payload-file-missing", "error", "data/x")
    assert [finding.code for finding in findings.kept()[:2]] == ["payload-file-missing", "tag-file-unlisted"]
    assert (findings.errors, findings.warnings, len(findings.kept())) == (1, 600, 501)


def test_a_file_that_becomes_a_link_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / UUID, bag_files())
    outside = tmp_path / "outside"
    (folder / "data/a.txt").rename(outside)
    (folder / "data/a.txt").write_bytes(outside.read_bytes())
    really = os.open

    def swapping(path: bytes, flags: int) -> int:
        if path.endswith(b"a.txt"):
            os.unlink(path)  # noqa: PTH108 - bytes
            os.symlink(os.fsencode(outside), path)  # noqa: PTH211 - bytes
        return really(path, flags)

    monkeypatch.setattr(folder_contents_module.os, "open", swapping)
    with pytest.raises(OSError, match="symbolic links"):
        validate(folder, profile=None, threads=1)


def test_many_warnings_never_hide_an_error(tmp_path: Path) -> None:
    strays = {f"stray-{number}": b"" for number in range(700)}
    files = {**strays, **bag_files()}
    files["data/a.txt"] = b"changed"
    report = validate(tar_bag(tmp_path, files), profile=None)
    assert report.findings[0].code == "payload-checksum-mismatch"
    assert (report.errors, report.warnings, len(report.findings)) == (1, 700, 501)


@pytest.mark.parametrize("threads", [1, 2, 7, 32])
def test_the_verdict_does_not_depend_on_the_number_of_threads(tmp_path: Path, threads: int) -> None:
    payload = {f"data/{number}": bytes([number % 256]) * (number * 997 % 300_000) for number in range(120)}
    files = bag_files(payload, algorithms=("md5", "sha1", "sha256", "sha512"))
    assert validate(tar_bag(tmp_path, files), profile=None, threads=threads).findings == ()


def test_the_catalogue_says_for_every_code_what_it_means_and_what_to_do() -> None:
    for code, kind in CATALOGUE.items():
        assert kind.code == code
        assert kind.severity in Severity
        assert kind.meaning.endswith(".")
        assert kind.remedy.endswith(".")
        assert kind.source


def test_every_code_in_use_is_in_the_catalogue() -> None:
    """And every code in the catalogue is in use."""
    import re

    import dpn.bags

    folder = Path(dpn.bags.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "catalogue.py")
    for code in CATALOGUE:
        assert f'"{code}"' in text, code
    added = re.findall(r"""(?:\.add|_add|Unreadable)\(\s*"([a-z0-9-]+)\"""", text)
    assert added
    assert set(added) <= CATALOGUE.keys()


def test_importing_bags_costs_no_heavy_library() -> None:
    import subprocess
    import sys

    heavy = {
        "sqlalchemy",
        "pydantic",
        "boto3",
        "requests",
        "fastapi",
        "typer",
        "rich",
        "tarfile",
        "multiprocessing",
    }
    modules = "dpn.bags.building.build, dpn.bags.validation.validation"
    code = f"import sys, {modules}; print(' '.join(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)


def test_a_folder_that_is_no_bag_is_invalid_and_a_device_no_bag(tmp_path: Path) -> None:
    codes = {finding.code for finding in validate(tmp_path, profile=None).findings}
    assert codes >= {"declaration-missing", "manifest-missing", "payload-directory-missing"}
    with pytest.raises(NotABag):
        validate(Path("/dev/null"), profile=None)
