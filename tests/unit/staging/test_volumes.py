"""A volume that is not the one it should be is an error, never an empty volume; paths cannot leave it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dpn.errors import Misconfigured
from dpn.staging.disk_use import allocated_bytes, note_tree
from dpn.staging.volumes import MARKER, Volume

BAG = "00000000-0000-4000-a000-000000000001"


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume("main", tmp_path / "main")
    made.path.mkdir()
    return made


def test_a_new_volume_is_marked_and_laid_out(volume: Volume) -> None:
    volume.set_up(known=False)
    assert (volume.path / MARKER).read_text() == "main\n"
    assert sorted(path.name for path in volume.path.iterdir()) == [MARKER, "items", "quarantine"]
    volume.check()


def test_setting_up_again_changes_nothing(volume: Volume) -> None:
    volume.set_up(known=False)
    volume.item_folder(7).mkdir()
    volume.set_up(known=True)
    volume.set_up(known=False)
    assert volume.item_folder(7).is_dir()


def test_a_known_volume_without_its_marker_is_a_disk_that_is_not_mounted(volume: Volume) -> None:
    with pytest.raises(Misconfigured, match="mount the volume's disk") as raised:
        volume.set_up(known=True)
    assert str(volume.path) in str(raised.value)
    assert not list(volume.path.iterdir())


def test_a_disk_that_goes_away_while_we_work_is_noticed(volume: Volume) -> None:
    volume.set_up(known=False)
    (volume.path / MARKER).unlink()
    with pytest.raises(Misconfigured, match="mount"):
        volume.check()


@pytest.mark.parametrize("known", [False, True])
def test_another_volumes_disk_is_refused(volume: Volume, known: bool) -> None:
    (volume.path / MARKER).write_text("other\n")
    with pytest.raises(Misconfigured, match="is volume 'other'"):
        volume.set_up(known=known)


def test_a_marker_full_of_rubbish_is_refused_and_harmless(volume: Volume) -> None:
    (volume.path / MARKER).write_bytes(b"\xff\n\x1b" * 100_000)
    with pytest.raises(Misconfigured) as raised:
        volume.set_up(known=True)
    assert str(raised.value).isprintable()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"staging\.volumes\.main: .*absent"):
        Volume("main", tmp_path / "absent").set_up(known=False)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "read-only", "size=1m,ro") as folder:
        yield folder


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "size=1m") as folder:
        yield folder


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_worker_starts_on_a_full_volume_since_storing_what_lies_there_makes_room(small: Path) -> None:
    volume = Volume("main", small)
    volume.set_up(known=False)
    fill(small)
    volume.set_up(known=True)


def test_a_new_volume_that_is_full_is_named(small: Path) -> None:
    fill(small)
    with pytest.raises(Misconfigured, match="No space left"):
        Volume("main", small).set_up(known=False)


def fill(folder: Path) -> None:
    (folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free))


def test_a_disk_that_cannot_be_written_is_named(read_only: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot write to"):
        Volume("main", read_only).set_up(known=False)


@pytest.mark.parametrize("item_id", [0, -1, True, "1", "../1", 1.0, None])
def test_only_an_items_number_makes_a_path(volume: Volume, item_id: object) -> None:
    for folder in (volume.item_folder, volume.quarantine_folder):
        with pytest.raises(ValueError, match="not the id"):
            folder(item_id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        f"items/1/2/../../../{BAG}.tar",
        f"items/../1/{BAG}.tar",
        f"items/1/{BAG}.tar",
        f"items/1/2/3/{BAG}.tar",
        f"items/01/2/{BAG}.tar",
        f"items/1/2/{BAG}.tar\n",
        f"items/1/2/{BAG.upper().replace('A', 'AB')}.tar",
        "items/1/2/other.tar",
        f"quarantine/1/{BAG}.tar",
        f"/items/1/2/{BAG}.tar",
    ],
)
def test_a_manifest_names_staged_bags_only(volume: Volume, path: str) -> None:
    with pytest.raises(ValueError, match="not the path of a staged bag"):
        volume.staged_path(path)


def test_a_staged_bags_path_goes_both_ways(volume: Volume) -> None:
    path = volume.path / "items" / "12" / "5" / f"{BAG}.tar"
    assert volume.relative(path) == f"items/12/5/{BAG}.tar"
    assert volume.staged_path(f"items/12/5/{BAG}.tar") == path
    for elsewhere in (volume.path.parent / "x", volume.path / "items", path.parent):
        with pytest.raises(ValueError, match=r"not the path|not in the subpath"):
            volume.relative(elsewhere)


def test_what_is_held_is_what_the_latest_holder_has_on_the_disk(volume: Volume) -> None:
    volume.set_up(known=False)
    for token, size in ((3, 50_000), (11, 8192)):
        folder = volume.item_folder(1) / str(token)
        folder.mkdir(parents=True)
        (folder / "bag.tar").write_bytes(b"x" * size)
    assert volume.held_bytes(1) == 8192
    with (volume.item_folder(1) / "11" / "sparse.tar").open("wb") as sparse:
        sparse.truncate(10**9)
    assert volume.held_bytes(1) < 10**6
    assert volume.held_bytes(2) == 0


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def of_disk(folder: Path) -> int:
    """What `du` counts below the folder, without itself and without notes."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*") if path.name != ".counted") * 512


def test_what_is_held_is_all_that_lies_there_however_deep(tmp_path: Path) -> None:
    write(tmp_path / "bag.tar", 8192)
    write(tmp_path / ".building-x" / "bag.tar", 81_920)
    write(tmp_path / "fetched" / "objects" / "a" / "b" / "c", 100)
    assert allocated_bytes(tmp_path) == of_disk(tmp_path) >= 8192 + 81_920 + 100


def test_a_bag_that_has_two_names_for_a_moment_counts_once(tmp_path: Path) -> None:
    write(tmp_path / ".building-x" / "bag.tar", 81_920)
    once = allocated_bytes(tmp_path)
    os.link(tmp_path / ".building-x" / "bag.tar", tmp_path / "bag.tar")
    assert allocated_bytes(tmp_path) == once


def test_a_noted_tree_is_not_looked_through_and_what_came_since_is_still_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "fetched" / "objects"
    note_tree(tmp_path, "fetched/objects")
    write(tree / "a", 8192)
    write(tree.parent / "partial" / "b", 40_960)
    without_notes = of_disk(tmp_path)
    looked_at: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked_at.append(str(path)) or scan(path))  # type: ignore[func-returns-value]
    before = allocated_bytes(tmp_path)
    assert str(tree) not in looked_at
    note_tree(tmp_path, "fetched/objects")
    assert allocated_bytes(tmp_path) == before + 8192
    assert before + 8192 <= without_notes + 2 * 4096, "the note itself and the tree's own folder are all the rest"


def test_a_noted_tree_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    write(tmp_path / "fetched" / "objects" / "a", 81_920)
    note_tree(tmp_path, "fetched/objects")
    shutil.rmtree(tmp_path / "fetched")
    assert allocated_bytes(tmp_path) <= 4096


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"tree": "fetched"}', b"\xff"])
def test_a_note_that_nobody_can_read_hides_nothing(tmp_path: Path, note: bytes) -> None:
    write(tmp_path / "fetched" / "a", 81_920)
    (tmp_path / ".counted").write_bytes(note)
    assert allocated_bytes(tmp_path) >= 81_920


def test_on_a_full_disk_a_tree_is_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "fetched" / "objects"
    note_tree(tmp_path, "fetched/objects")
    write(tree / "a", 81_920)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dpn.staging.disk_use.replace_file", full)
    note_tree(tmp_path, "fetched/objects")
    assert allocated_bytes(tmp_path) >= 81_920
