"""What a root that is a folder keeps in, and out: links, devices, names that are no keys, files under way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpn.errors import Misconfigured, ObjectExists, SourceChanged, StoreFull, StoreMissing
from dpn.files import is_temporary
from dpn.objects.folder.root import FolderRoot
from dpn.objects.keys import KeyRefused
from dpn.objects.root import Skipped, WriteOptions
from tests.services.objects.conftest import content_of, keys_of, no_chunks, put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the root; beside it lies what no key may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def root(folder: Path) -> FolderRoot:
    return FolderRoot("test", folder)


def test_no_link_leads_out(root: FolderRoot, folder: Path) -> None:
    (folder / "way").symlink_to(folder.parent / "outside")
    (folder / "file").symlink_to(folder.parent / "outside" / "secret")
    for key in ("way/secret", "file"):
        assert root.head(key) is None
        with pytest.raises(StoreMissing):
            content_of(root, key)
        assert not root.remove(key)
        with pytest.raises(ObjectExists, match="link"):
            put(root, key)
    assert keys_of(root) == keys_of(root, "way") == []
    assert (folder.parent / "outside" / "secret").read_text() == "secret"


def test_what_is_no_object_is_passed_by_and_told(root: FolderRoot, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("file")
    for name in (b"file", b"b\xff", b"line\nbreak", b".object.0123456789abcdef.tmp"):
        (folder / os.fsdecode(name)).touch()
    (folder / "empty").mkdir()
    told: list[Skipped] = []
    assert keys_of(root, skipped=told.append) == ["file"]
    assert {one.name: one.why.partition(",")[0] for one in told} == {
        "'pipe'": "a device",
        "'link'": "a link",
        "'b\\udcff'": "it is not UTF-8",
        "'line\\nbreak'": "it has a NUL",
        "'.object.0123456789abcdef.tmp'": "a file under way",
    }
    with pytest.raises(StoreMissing):
        content_of(root, "pipe")


def test_a_file_that_is_written_while_it_is_read_is_told(root: FolderRoot, folder: Path) -> None:
    for number, change in enumerate((lambda file: file.write(b"x"), lambda file: file.truncate(1))):
        put(root, f"k{number}", bytes(1_000_000))
        with root.open(f"k{number}") as opened:
            next(opened.chunks)
            with (folder / f"k{number}").open("rb+") as file:
                change(file)
            with pytest.raises(SourceChanged):
                list(opened.chunks)


def test_a_file_that_is_exchanged_is_read_as_it_was_opened(root: FolderRoot) -> None:
    put(root, "k", b"a" * 1_000_000)
    with root.open("k") as opened:
        put(root, "k", b"b")
        assert b"".join(opened.chunks) == b"a" * 1_000_000


def test_a_walk_ends_with_an_error_and_never_early(root: FolderRoot, folder: Path) -> None:
    (folder / "k").touch()
    folder.rename(folder.with_name("elsewhere"))
    for call in (lambda: keys_of(root), lambda: root.head("k"), lambda: put(root, "k")):
        with pytest.raises(Misconfigured, match="mount its disk"):
            call()


def test_a_folder_where_a_file_should_be_and_the_other_way_round(root: FolderRoot) -> None:
    put(root, "a/b")
    for key in ("a", "a/b/c"):
        with pytest.raises(ObjectExists):
            put(root, key)
        assert root.head(key) is None
    assert keys_of(root) == ["a/b"]


def test_what_a_disk_cannot_hold_is_told_before_a_byte_is_read(root: FolderRoot) -> None:
    with pytest.raises(StoreFull, match="free some"):
        root.write("k", no_chunks(), 2**62, WriteOptions())
    with pytest.raises(KeyRefused, match="shorten"):
        put(root, "x" * 256)
    assert put(root, "x" * 255).size == 7


def test_a_killed_write_leaves_nothing_under_the_key(root: FolderRoot, folder: Path) -> None:
    put(root, "k", b"before")
    code = f"""
import os, signal
from pathlib import Path
from dpn.objects.folder.root import FolderRoot
from dpn.objects.root import WriteOptions
def chunks():
    yield b"12"
    os.kill(os.getpid(), signal.SIGKILL)
FolderRoot("test", Path({str(folder)!r})).write("k", chunks(), 5, WriteOptions())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode < 0
    assert content_of(root, "k") == b"before"
    assert [is_temporary(name) for name in sorted(os.listdir(folder))] == [True, False]  # noqa: PTH208
