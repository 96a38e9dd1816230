"""All that cannot be bagged is told in one answer, from every kind of source, before anything is read or built."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from dpn.bags.building import entries as entries_module
from dpn.bags.building.build import build_bag, rehearse
from dpn.bags.building.metadata import DpnMetadata
from dpn.bags.errors import SourceRefused
from dpn.bags.findings import shown
from dpn.packaging.package import package
from dpn.packaging.settings import DepositS3Settings
from dpn.packaging.unfit import unfit_entries
from tests.fixtures.deposits import described
from tests.fixtures.made_bags import bag_files, tar_bag, write_folder

S3 = DepositS3Settings()
METADATA = DpnMetadata(local_id="x", ingest_node="north", bagging_date=date(2026, 1, 2))
UNFIT = {
    "end ": "white space",
    "wide\u3000": "white space",
    "two\u2028lines": "line separator",
    "deep/er/%0D": "encoded line break",
    "deep/bell\x07": "control characters",
    "deep/twice": "only in case",
}
FIT = {"a": b"1", "deep/Twice": b"2", "blank /b": b"3"}


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(entries_module.FileContent, "take", refused)
    monkeypatch.setattr(entries_module.SliceContent, "take", refused)


def source_of(tmp_path: Path, kind: str, names: dict[str, bytes]) -> Path:
    if kind == "files":
        return write_folder(tmp_path / "source", names)
    files = bag_files({f"data/{name}": content for name, content in names.items()})
    return tar_bag(tmp_path, files) if kind == "tar" else write_folder(tmp_path / "source", files)


def told(tmp_path: Path, kind: str, names: dict[str, bytes]) -> dict[str, str]:
    """Why, by the name in the source as it is shown."""
    source = source_of(tmp_path, kind, names)
    before = f"{source}/" if kind == "files" else f"{source}: data/"
    return {one.where.removeprefix(before): one.why for one in unfit_entries(str(source), as_is=False, s3=S3)}


@pytest.mark.usefixtures("nothing_is_read")
@pytest.mark.parametrize("kind", ["files", "folder", "tar"])
def test_every_unfit_name_is_told_at_once(tmp_path: Path, kind: str) -> None:
    found = told(tmp_path, kind, FIT | dict.fromkeys(UNFIT, b"x"))
    assert set(found) == {name if kind == "files" else shown(name) for name in UNFIT}
    for name, why in UNFIT.items():
        assert why in found[name if kind == "files" else shown(name) or ""]


@pytest.mark.parametrize("kind", ["files", "folder", "tar"])
def test_a_source_that_can_be_bagged_is_told_nothing_of(tmp_path: Path, kind: str) -> None:
    assert told(tmp_path, kind, FIT) == {}


def test_many_are_all_told(tmp_path: Path) -> None:
    names = {f"{number} ": b"" for number in range(1200)}
    for kind in ("files", "tar"):
        (tmp_path / kind).mkdir()
        assert len(told(tmp_path / kind, kind, {"fit": b"", **names})) == 1200


def test_what_is_no_file_is_told_too(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", {"a": b"1"})
    (source / "link").symlink_to("a")
    os.mkfifo(source / "pipe")
    found = {Path(one.where).name: one.why for one in unfit_entries(str(source), as_is=False, s3=S3)}
    assert found == {
        "link": "it is a symbolic link. Put the content in its place.",
        "pipe": "it is neither a file nor a folder. Put the content in its place.",
    }


def test_an_unfit_folder_is_told_once_and_what_is_unfit_in_it_by_itself(tmp_path: Path) -> None:
    source = write_folder(
        tmp_path / "source", {"one\u2029two/a": b"1", "one\u2029two/b ": b"2", "one\u2029two/c/d": b"3"}
    )
    found = [one.where.removeprefix(f"{source}/") for one in unfit_entries(str(source), as_is=False, s3=S3)]
    assert found == ["one\u2029two", "one\u2029two/b "]


def test_a_bag_that_is_taken_as_it_is_is_told_what_makes_it_invalid(tmp_path: Path) -> None:
    files = bag_files({"data/bell\x07": b"1", "data/end ": b"2"})
    found = [one.where for one in unfit_entries(str(tar_bag(tmp_path, files)), as_is=True, s3=S3)]
    assert [where.partition(": ")[2] for where in found] == ["data/bell\\x07"]


def test_sources_with_nothing_to_bag_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty/folder").mkdir(parents=True)
    with pytest.raises(SourceRefused, match="no file in"):
        list(unfit_entries(str(tmp_path / "empty"), as_is=False, s3=S3))


@pytest.mark.parametrize("kind", ["files", "folder", "tar"])
@pytest.mark.parametrize("name", [name for name in UNFIT if name != "deep/twice"], ids=ascii)
def test_what_is_told_is_what_packaging_refuses(tmp_path: Path, kind: str, name: str) -> None:
    source = source_of(tmp_path, kind, {name: b"1"})
    (one,) = unfit_entries(str(source), as_is=False, s3=S3)
    (tmp_path / "work").mkdir()
    with pytest.raises(SourceRefused) as refused:
        package(described(source), tmp_path / "work", s3=S3)
    assert one.why.removesuffix(" Rename it.") in str(refused.value)


@pytest.mark.usefixtures("nothing_is_read")
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_a_rehearsal_tells_what_building_would_and_writes_nothing(tmp_path: Path, form: str) -> None:
    source = write_folder(tmp_path / "source", {"a": b"", "A": b"", "end ": b""})
    (tmp_path / "out").mkdir()
    found = [Path(one.where).name for one in rehearse([source], tmp_path / "out", metadata=METADATA, form=form)]  # type: ignore[arg-type]
    assert found == (["a", "end "] if form == "tar" else ["end "])
    assert list((tmp_path / "out").iterdir()) == []


def test_a_rehearsal_refuses_what_building_does(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", {"a": b""})
    (tmp_path / "uuid").mkdir()
    bad = DpnMetadata(local_id="two\nlines", ingest_node="north", bagging_date=date(2026, 1, 2))
    for arguments, error in (
        ({"out_dir": source, "metadata": METADATA}, SourceRefused),
        ({"out_dir": tmp_path / "gone", "metadata": METADATA}, FileNotFoundError),
        ({"out_dir": tmp_path, "metadata": METADATA, "uuid": "uuid", "form": "folder"}, FileExistsError),
        ({"out_dir": tmp_path, "metadata": bad}, SourceRefused),
    ):
        with pytest.raises(error):
            list(rehearse([source], **arguments))  # type: ignore[arg-type]
        with pytest.raises(error):
            build_bag([source], **arguments)  # type: ignore[arg-type]
