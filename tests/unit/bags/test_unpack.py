"""What is unpacked is the bag, below its own folder; whatever a bag cannot hold is refused and makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn.bags.unpack import unpack
from dpn.bags.validation.profiles import load_profile
from dpn.bags.validation.validation import validate
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, NotABag
from tests.fixtures.made_bags import END, UUID, bag_files, header, member, members, pax, tar_bag, write_tar

LINK, HARD_LINK, FIFO, FOLDER = b"2", b"1", b"6", b"5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_bag_is_unpacked_byte_for_byte_and_is_valid(tmp_path: Path, folder: Path) -> None:
    files = bag_files({"data/a.txt": b"first\n", "data/sub/ü b.bin": bytes(70_000), "data/empty": b""})
    seen: list[int] = []
    out = unpack(tar_bag(tmp_path, files), folder, progress=seen.append)
    assert out == folder / UUID
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    assert seen[-1] == sum(map(len, files.values()))
    assert validate(out, profile=load_profile("dpn")).valid


def test_folders_with_nothing_in_them_and_dotted_names_are_kept(tmp_path: Path, folder: Path) -> None:
    content = member("./", kind=FOLDER) + member(f"./{UUID}/data/empty/", kind=FOLDER)
    content += b"".join(member(f"./{UUID}/{name}", text) for name, text in bag_files().items()) + END
    out = unpack(write_tar(tmp_path, content), folder)
    assert (out / "data" / "empty").is_dir()
    assert (out / "data" / "a.txt").read_bytes() == b"first\n"


@pytest.mark.parametrize(
    "hostile",
    [
        member(f"{UUID}/../escaped", b"x"),
        member("/tmp/escaped-from-a-bag", b"x"),
        member("elsewhere/escaped", b"x"),
        member(f"{UUID}", b"x"),
        member(f"{UUID}/data/../../escaped", b"x"),
        pax({b"path": b"../escaped"}) + member(f"{UUID}/data/x", b"x"),
        header(f"{UUID}/data/link".encode(), 0, LINK),
        header(f"{UUID}/data/link".encode(), 0, HARD_LINK),
        header(f"{UUID}/data/pipe".encode(), 0, FIFO),
    ],
)
def test_what_no_bag_may_hold_is_refused_and_nothing_appears_outside(tmp_path, folder, hostile) -> None:
    tar = write_tar(tmp_path, members(bag_files()) + hostile + END)
    with pytest.raises(NotABag):
        unpack(tar, folder)
    assert {path.name for path in folder.iterdir()} <= {UUID}
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/escaped-from-a-bag").exists()
    assert not any(path.is_symlink() or path.is_fifo() for path in folder.rglob("*"))


def test_a_name_that_stands_twice_or_is_a_folder_too_overwrites_nothing(tmp_path, folder) -> None:
    twice = member(f"{UUID}/data/a.txt", b"second\n")
    with pytest.raises(FileExistsError):
        unpack(write_tar(tmp_path, members(bag_files()) + twice + END), folder)
    assert (folder / UUID / "data/a.txt").read_bytes() == b"first\n"


def test_nothing_that_is_there_is_touched(tmp_path: Path, folder: Path) -> None:
    (folder / UUID).mkdir()
    (folder / UUID / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        unpack(tar_bag(tmp_path), folder)
    assert everything(folder) == {f"{UUID}/mine"}


def test_a_tar_that_ends_too_early_is_told(tmp_path: Path, folder: Path) -> None:
    content = tar_bag(tmp_path).read_bytes()
    with pytest.raises(NotABag, match="holds what no bag may"):
        unpack(write_tar(tmp_path, content[: len(content) // 2]), folder)


def test_it_stops_when_asked(tmp_path: Path, folder: Path) -> None:
    stopped = Cancellation()
    stopped.cancel(Interrupted("stop"))
    with pytest.raises(Interrupted):
        unpack(tar_bag(tmp_path), folder, cancellation=stopped)
