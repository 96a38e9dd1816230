"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpn.files import is_temporary, make_durable, new_file, publish_new, replace_file


def test_a_replaced_file_has_its_new_content_and_permissions_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    with replace_file(path, permissions=0o600) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail_midway() -> None:
        with replace_file(path) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_midway()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_content_and_a_temporary_file_that_is_known_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    code = f"""
import os, pathlib, signal
from dpn.files import replace_file
with replace_file(pathlib.Path({str(path)!r})) as file:
    file.write(b"half of the n")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    [left] = [other for other in tmp_path.iterdir() if other != path]
    assert is_temporary(left.name)


def test_a_published_file_never_takes_a_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"first")

    def publish_second() -> None:
        with new_file(path) as (file, temporary):
            file.write(b"second")
            publish_new(temporary, path)

    with pytest.raises(FileExistsError):
        publish_second()

    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in order."""
    steps: list[str] = []
    fsync, rename, link = os.fsync, Path.replace, os.link

    def seen_fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def seen_rename(self: Path, target: Path) -> Path:
        steps.append("name")
        return rename(self, target)

    def seen_link(source: Path, target: Path) -> None:
        steps.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "link", seen_link)
    monkeypatch.setattr(Path, "replace", seen_rename)
    return steps


def test_content_is_on_disk_before_the_name_and_the_name_before_the_answer(
    tmp_path: Path, steps: list[str]
) -> None:
    with replace_file(tmp_path / "a.json") as file:
        file.write(b"new")

    assert steps == ["file", "name", "folder"]


def test_a_new_files_name_is_on_disk_before_the_answer(tmp_path: Path, steps: list[str]) -> None:
    with new_file(tmp_path / "a.tar") as (file, temporary):
        file.write(b"new")
        make_durable(file)
        publish_new(temporary, tmp_path / "a.tar")
        assert steps == ["file", "name", "folder"]


@pytest.mark.parametrize("name", ["a.tar", ".a.tar", ".a.tmp", "a.tar.0123456789abcdef.tmp", ".rsync.0123.tmp"])
def test_other_names_are_not_taken_for_temporary_files(name: str) -> None:
    assert not is_temporary(name)
