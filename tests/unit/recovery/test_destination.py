"""A bag that came appears whole under its name; nothing that is there is overwritten."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import dpn.recovery.destination as module
from dpn.errors import Misconfigured, NoSpace
from dpn.recovery.destination import Busy, Destination, Occupied

BAG = "00000000-0000-4000-a000-000000000001"


def destination(folder: Path, *, unpacked: bool = False) -> Destination:
    return Destination(folder, bag=BAG, name="a-request", unpacked=unpacked)


def bring(place: Destination, content: bytes = b"a bag") -> Path:
    with place.held():
        place.tar.write_bytes(content)
        if place.unpacked:
            (place.scratch / BAG).mkdir()
            (place.scratch / BAG / "bagit.txt").write_bytes(content)
        return place.publish()


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_bag_appears_under_its_name_and_the_scratch_folder_goes(tmp_path: Path, unpacked: bool) -> None:
    place = destination(tmp_path, unpacked=unpacked)
    assert not place.is_taken()
    target = bring(place)
    assert target.name == (BAG if unpacked else f"{BAG}.tar")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert place.is_taken()


@pytest.mark.parametrize("unpacked", [False, True])
def test_what_is_there_is_never_overwritten_however_late_it_came(tmp_path: Path, unpacked: bool) -> None:
    place = destination(tmp_path, unpacked=unpacked)
    if unpacked:
        place.target.mkdir()
        mine = place.target / "mine"
    else:
        mine = place.target
    mine.write_bytes(b"mine")
    with pytest.raises(Occupied, match="Nothing was overwritten"):
        bring(place)
    assert mine.read_bytes() == b"mine"
    assert place.tar.read_bytes() == b"a bag", "what came is kept"


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert bring(destination(tmp_path)).read_bytes() == b"a bag"
    with pytest.raises(Occupied):
        bring(destination(tmp_path), b"another")
    assert (tmp_path / f"{BAG}.tar").read_bytes() == b"a bag"


@pytest.mark.parametrize("answer", [OSError(errno.EPERM, "no hard links"), FileExistsError()])
def test_a_run_that_died_while_it_kept_the_name_free_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: OSError
) -> None:
    """Without hard links, systems differ in what they say of a name that is there."""

    class Died(BaseException):
        pass

    def no_links(*_: object) -> None:
        raise answer if destination(tmp_path).target.exists() else OSError(errno.EPERM, "no hard links")

    def die(*_: object) -> None:
        raise Died

    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", die)
        with pytest.raises(Died):
            bring(destination(tmp_path))
    assert destination(tmp_path).target.stat().st_size == 0
    assert not destination(tmp_path).is_taken()
    assert bring(destination(tmp_path)).read_bytes() == b"a bag"
    assert [path.name for path in tmp_path.iterdir()] == [f"{BAG}.tar"]


def test_an_empty_file_under_the_bags_name_is_in_the_way_while_nothing_is_to_take_its_place(
    tmp_path: Path,
) -> None:
    destination(tmp_path).target.touch()
    assert destination(tmp_path).is_taken()


def test_a_link_or_a_pipe_under_the_bags_name_is_not_the_bag(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"a bag")
    destination(tmp_path).target.symlink_to("elsewhere")
    with pytest.raises(Occupied):
        destination(tmp_path).is_taken()
    with pytest.raises(Misconfigured, match="not a folder"):
        destination(tmp_path / "missing").is_taken()


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    with destination(tmp_path).held(), pytest.raises(Busy), destination(tmp_path).held():
        pass


def test_a_scratch_folder_that_is_somebody_elses_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    place = destination(tmp_path)
    place.scratch.symlink_to("theirs")
    with pytest.raises(Occupied), place.held():
        pass
    place.scratch.unlink()
    place.scratch.mkdir()
    place.scratch.chmod(0o777)
    with pytest.raises(Occupied, match="not ours alone"), place.held():
        pass


def test_room_is_needed_for_what_is_still_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    destination(tmp_path).require_room(1_000_000)
    with pytest.raises(NoSpace, match="1000001 are still to come"):
        destination(tmp_path).require_room(1_000_001)
    with pytest.raises(NoSpace, match="are still to come"):
        destination(tmp_path, unpacked=True).require_room(600_000)
    place = destination(tmp_path)
    with place.held():
        place.tar.write_bytes(bytes(500_000))
        place.require_room(1_400_000)
