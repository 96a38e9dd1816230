"""Whoever holds an item's folder is the only one that writes there, and inherits what came before."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dpn.errors import LeaseLost, LocalTrouble, TransientError
from dpn.staging.folders import (
    StagingFolder,
    give_up_abandoned,
    give_up_item,
    hold_folder,
    remove_given_up,
)
from dpn.staging.volumes import Volume, numbered_folders, remove_tree

ITEM = 12

HOLD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from dpn.staging.folders import hold_folder
from dpn.staging.volumes import Volume
with hold_folder(Volume("main", Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])) as folder:
    (folder.path / "bag.tar").write_bytes(b"partial")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume("main", tmp_path)
    made.set_up(known=False)
    return made


def test_a_folder_is_named_by_item_and_token_and_private(volume: Volume) -> None:
    with hold_folder(volume, ITEM, 3) as folder:
        assert folder.path == volume.path / "items" / "12" / "3"
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert not folder.adopted


def test_the_next_holder_takes_over_what_came_before(volume: Volume) -> None:
    with hold_folder(volume, ITEM, 3) as folder:
        (folder.path / "bag.tar").write_bytes(b"partial")
        number = (folder.path / "bag.tar").stat().st_ino
    with hold_folder(volume, ITEM, 5) as folder:
        assert folder.adopted
        assert (folder.path / "bag.tar").stat().st_ino == number
        assert list(numbered_folders(volume.item_folder(ITEM))) == [5]


def test_of_several_former_folders_the_newest_is_taken_and_the_others_go(volume: Volume) -> None:
    for token in (2, 9, 10):
        _leave_behind(volume, token)
    with hold_folder(volume, ITEM, 11) as folder:
        assert (folder.path / "bag.tar").read_text() == "10"
        assert list(numbered_folders(volume.item_folder(ITEM))) == [11]


def test_what_a_stuck_former_holder_has_is_left_to_it(volume: Volume) -> None:
    _leave_behind(volume, 2)
    with ExitStack() as stuck:
        theirs = stuck.enter_context(hold_folder(volume, ITEM, 3))
        (theirs.path / "bag.tar").write_bytes(b"theirs")
        with hold_folder(volume, ITEM, 5) as ours:
            assert not ours.adopted
            assert not (ours.path / "bag.tar").exists()
            (theirs.path / "bag.tar").write_bytes(b"still writing")
            assert not (ours.path / "bag.tar").exists()
    with hold_folder(volume, ITEM, 6):
        assert list(numbered_folders(volume.item_folder(ITEM))) == [6]


def test_a_child_that_outlives_its_worker_keeps_the_folder(volume: Volume) -> None:
    with hold_folder(volume, ITEM, 3) as folder:
        child = subprocess.Popen(["sleep", "600"], pass_fds=folder.keep_open)
    try:
        with hold_folder(volume, ITEM, 4) as ours:
            assert not ours.adopted
    finally:
        child.kill()
        child.wait()
    with hold_folder(volume, ITEM, 5):
        assert list(numbered_folders(volume.item_folder(ITEM))) == [5]


def test_after_kill_9_of_a_holder_its_bytes_are_taken_over(volume: Volume) -> None:
    arguments = [sys.executable, "-c", HOLD_UNTIL_KILLED, str(volume.path), str(ITEM), "3"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with hold_folder(volume, ITEM, 4) as folder:
            assert not folder.adopted
        remove_item(volume, 99)  # what is not there is no error
        holder.kill()
    with hold_folder(volume, ITEM, 5) as folder:
        assert folder.adopted


def test_a_worker_whose_lease_went_to_a_later_one_gets_nothing(volume: Volume) -> None:
    with hold_folder(volume, ITEM, 5) as folder:
        (folder.path / "bag.tar").write_bytes(b"theirs")
    with pytest.raises(LeaseLost), hold_folder(volume, ITEM, 4):
        pytest.fail("a former holder got a folder")
    assert (volume.item_folder(ITEM) / "5" / "bag.tar").read_bytes() == b"theirs"


def test_the_same_lease_may_come_back_but_not_twice_at_once(volume: Volume) -> None:
    _leave_behind(volume, 5)
    with hold_folder(volume, ITEM, 5) as folder:
        assert (folder.path / "bag.tar").read_text() == "5"
        with pytest.raises(LocalTrouble, match="still in use"), hold_folder(volume, ITEM, 5):
            pytest.fail("one folder was held twice")


def test_after_an_error_the_bytes_stay_and_the_lock_is_free(volume: Volume) -> None:
    def fail() -> None:
        with hold_folder(volume, ITEM, 3) as folder:
            (folder.path / "bag.tar").write_bytes(b"partial")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with hold_folder(volume, ITEM, 4) as folder:
        assert (folder.path / "bag.tar").read_bytes() == b"partial"


def test_what_is_not_ours_in_an_items_folder_is_left_alone(volume: Volume, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    volume.item_folder(ITEM).mkdir()
    (volume.item_folder(ITEM) / "3").symlink_to(outside)
    (volume.item_folder(ITEM) / "notes").touch()
    with hold_folder(volume, ITEM, 5) as folder:
        assert not folder.adopted
    remove_item(volume, ITEM)
    assert (outside / "precious").exists()
    assert not volume.item_folder(ITEM).exists()


def test_a_folder_that_is_swept_while_we_ask_for_its_lock_is_not_believed(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, swept = fcntl.flock, []

    def sweep_first(descriptor: int, operation: int) -> None:
        if not swept:
            swept.append(remove_item(volume, ITEM))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with hold_folder(volume, ITEM, 3) as folder:
        assert folder.path.is_dir()
    assert swept


def test_what_is_being_removed_is_nobody_elses_folder_any_more(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_behind(volume, 1)
    _leave_behind(volume, 2)
    came: list[StagingFolder] = []
    really = shutil.rmtree

    def removed(path: Path, *_: object, **__: object) -> None:
        """Another holder comes while one folder is half removed, its lock file first."""
        (path / ".lock").unlink(missing_ok=True)
        if not came:
            came.append(StagingFolder(path, (), adopted=True))
            with hold_folder(volume, ITEM, 4) as folder:
                came[0] = folder
        really(path)

    monkeypatch.setattr(shutil, "rmtree", removed)
    with hold_folder(volume, ITEM, 3) as folder:
        assert (folder.path / "bag.tar").read_text() == "2"
    assert [folder.adopted for folder in came] == [False]


def test_a_removal_that_was_cut_short_is_ended_by_the_next_one(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_behind(volume, 1)
    _leave_behind(volume, 2)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", _fails)
        with pytest.raises(OSError, match="Input/output"), hold_folder(volume, ITEM, 3):
            pytest.fail("it is not ours alone yet")
    assert remove_abandoned(volume, ITEM)
    assert not volume.item_folder(ITEM).exists()


def test_what_another_process_adds_while_a_folder_is_removed_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rmdir, late = tmp_path / "folder", os.rmdir, []
    folder.mkdir()

    def rmdir_late(*arguments: Any, **named: Any) -> None:
        if not late:
            late.append((folder / ".lock").touch())
        rmdir(*arguments, **named)

    monkeypatch.setattr(os, "rmdir", rmdir_late)
    remove_tree(folder)
    assert not folder.exists()
    assert late


def test_of_many_holders_at_once_no_two_share_a_folder(volume: Volume) -> None:
    """Each adds a line to a file under a second lock that must never be contended."""
    _leave_behind(volume, 1)
    clashes: list[int] = []
    outcomes: list[str] = []

    def hold(token: int) -> None:
        try:
            with hold_folder(volume, ITEM, token) as folder:
                witness = os.open(folder.path / "witness", os.O_RDWR | os.O_CREAT)
                try:
                    fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    clashes.append(token)
                finally:
                    os.close(witness)
            outcomes.append("held")
        except (LeaseLost, LocalTrouble, TransientError):
            outcomes.append("refused")

    threads = [threading.Thread(target=hold, args=(token,)) for token in range(2, 42)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
    assert len(outcomes) == len(threads)
    assert "held" in outcomes
    with hold_folder(volume, ITEM, 100):
        assert list(numbered_folders(volume.item_folder(ITEM))) == [100]


def test_removing_an_item_may_be_repeated_and_ends_with_nothing(volume: Volume) -> None:
    _leave_behind(volume, 3)
    remove_item(volume, ITEM)
    remove_item(volume, ITEM)
    assert not volume.item_folder(ITEM).exists()


def test_what_somebody_uses_is_not_abandoned(volume: Volume) -> None:
    _leave_behind(volume, 3)
    with hold_folder(volume, ITEM, 5):
        assert not remove_abandoned(volume, ITEM)
        assert list(numbered_folders(volume.item_folder(ITEM))) == [5]
    assert remove_abandoned(volume, ITEM)
    assert not volume.item_folder(ITEM).exists()
    assert remove_abandoned(volume, ITEM)


def remove_item(volume: Volume, item_id: int) -> None:
    give_up_item(volume, item_id)
    remove_given_up(volume, item_id)


def remove_abandoned(volume: Volume, item_id: int) -> bool:
    give_up_abandoned(volume, item_id)
    return remove_given_up(volume, item_id)


def test_of_an_item_that_is_ours_a_later_holder_is_one_that_the_database_has_forgotten(volume: Volume) -> None:
    """It was put back from a backup: tokens begin where they were then, and the bytes are those of this item."""
    _leave_behind(volume, 3)
    _leave_behind(volume, 9)
    asked: list[int] = []
    with hold_folder(volume, ITEM, 4, whose="replication a", require_held=lambda: asked.append(1)) as folder:
        assert (folder.path / "bag.tar").read_text() == "9", "the newest bytes are those to go on from"
        assert list(numbered_folders(volume.item_folder(ITEM))) == [4]
    assert asked


def test_what_a_forgotten_holder_still_uses_is_left_to_it(volume: Volume) -> None:
    with hold_folder(volume, ITEM, 9) as theirs:
        with hold_folder(volume, ITEM, 4, require_held=lambda: None) as ours:
            assert not ours.adopted
        (theirs.path / "bag.tar").write_bytes(b"still writing")


def test_another_item_of_the_same_number_inherits_nothing(volume: Volume) -> None:
    with hold_folder(volume, ITEM, 3, whose="ingest a") as folder:
        (folder.path / "bag.tar").write_bytes(b"of a")
    with hold_folder(volume, ITEM, 3, whose="ingest b") as folder:
        assert not (folder.path / "bag.tar").exists()
    with hold_folder(volume, ITEM, 5, whose="ingest b") as folder:
        assert folder.adopted
        with (
            pytest.raises(LocalTrouble, match="works for ingest b"),
            hold_folder(volume, ITEM, 6, whose="ingest c"),
        ):
            pytest.fail("somebody works there")


def test_a_folder_of_the_time_before_it_said_whose_it_is_is_the_items(volume: Volume) -> None:
    _leave_behind(volume, 3)
    with hold_folder(volume, ITEM, 4, whose="ingest a") as folder:
        assert folder.adopted
    with hold_folder(volume, ITEM, 5, whose="ingest b") as folder:
        assert not folder.adopted


def test_what_was_staged_is_durable_with_its_name(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    with hold_folder(volume, ITEM, 3) as folder:
        monkeypatch.setattr("dpn.staging.folders.sync_folder", synced.append)
    assert synced == [folder.path, folder.path.parent, volume.items]


def _fails(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _leave_behind(volume: Volume, token: int) -> None:
    folder = volume.item_folder(ITEM) / str(token)
    folder.mkdir(parents=True)
    (folder / "bag.tar").write_text(str(token))
