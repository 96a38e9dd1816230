"""What may be deposited: judged before anything starts, with what, where and remedy for what may not."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from dpn.bags.building.build import build_bag
from dpn.bags.building.metadata import DpnMetadata
from dpn.packaging.settings import DepositS3Settings
from tools.demo.run import Order
from tools.demo.s3_sources import s3_settings
from tools.demo.sources import MEMBER, SAMPLE, DemoSource, check_apart, judge_all, make_sample
from tools.network.backends import Kinds
from tools.network.errors import Unusable


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return tmp_path / "built"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "annual reports"
    folder.mkdir()
    (folder / "2023.txt").write_text("profit", encoding="utf-8")
    return folder


@pytest.fixture
def bag(folder: Path, tmp_path: Path) -> Path:
    """A DPN bag in a tar."""
    metadata = DpnMetadata(local_id="reports", ingest_node="north", bagging_date=date(2024, 1, 2), member=MEMBER)
    out = tmp_path / "out"
    out.mkdir()
    return build_bag(folder, out, metadata=metadata).path


def take(built: Path, *sources: Path) -> list[DemoSource]:
    return judge_all([str(source) for source in sources], built)


def test_a_folder_is_deposited_under_its_name(folder: Path, built: Path) -> None:
    (source,) = take(built, folder)
    assert (source.given, source.request.source) == (str(folder), str(folder))
    assert (source.request.local_id, source.request.member, source.size) == ("annual reports", MEMBER, 6)
    assert not source.request.as_is


def test_a_valid_dpn_bag_is_taken_as_it_is(bag: Path, built: Path) -> None:
    (source,) = take(built, bag)
    assert source.request.as_is
    assert (source.request.local_id, source.size) == ("reports", bag.stat().st_size)


def test_a_bag_of_another_kind_is_packaged(bag: Path, built: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    other.write_bytes(bag.read_bytes())
    (source,) = take(built, other)
    assert not source.request.as_is
    assert source.request.local_id == "other"


def test_a_prefix_on_s3_needs_to_be_told_who_we_are_there(built: Path) -> None:
    with pytest.raises(Unusable, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        judge_all(["s3://bucket/a/prefix/"], built)


def test_the_usual_variables_become_the_settings_of_the_node_that_fetches() -> None:
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_DEFAULT_REGION": "a-region",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_PROFILE": "",
    }
    settings = s3_settings(environment)
    assert settings == {
        "endpoint_url": "http://127.0.0.1:9",
        "region": "a-region",
        "access_key_id": "key",
        "secret_access_key": "secret",
    }
    assert DepositS3Settings.model_validate(settings).secret() == "secret"
    order = Order(["/a", "s3://bucket/a/"], 3, Kinds(), None, False, None, None, settings)
    assert order.settings_of == {"north": {"ingest": {"s3": settings}}}
    assert Order(["/a"], 3, Kinds(), None, False, None, None, settings).settings_of == {}


def test_without_a_source_there_is_a_sample_with_what_real_deposits_have(built: Path) -> None:
    (source,) = take(built)
    assert source.given == SAMPLE
    assert source.size > 2_000_000
    files = [path for path in Path(source.request.source).rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert any(path.stat().st_size == 0 for path in files)
    assert any(not path.name.isascii() for path in files)


def test_the_sample_is_the_same_every_time(tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(make_sample(tmp_path / "a")) == content(make_sample(tmp_path / "b"))


def test_what_is_not_there_is_refused(built: Path, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="nowhere: No such file or directory: name a folder or a bag"):
        take(built, tmp_path / "nowhere")


def test_what_is_neither_file_nor_folder_is_refused_and_not_waited_for(built: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unusable, match="neither a folder nor a file"):
        take(built, tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"just a text", os.urandom(20_000)])
def test_a_file_that_is_no_bag_is_refused(built: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "something.tar"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=r"something\.tar: not a"):
        take(built, path)


def test_a_bag_that_is_not_valid_is_refused_with_its_first_errors(bag: Path, built: Path, tmp_path: Path) -> None:
    damaged = tmp_path / bag.name
    damaged.write_bytes(bag.read_bytes().replace(b"profit", b"losses"))
    with pytest.raises(Unusable, match=r"not a valid bag: .*2023\.txt") as refusal:
        take(built, damaged)
    assert "dpn bag validate" in str(refusal.value)


def test_a_folder_with_nothing_in_it_is_refused(built: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unusable, match="there is no file in"):
        take(built, tmp_path / "empty")


def test_a_folder_with_a_link_in_it_is_refused(folder: Path, built: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(Unusable, match="symbolic link"):
        take(built, folder)


def test_a_bag_that_is_given_twice_is_refused(bag: Path, built: Path) -> None:
    with pytest.raises(Unusable, match="the same bag: give each bag once"):
        take(built, bag, bag)


@pytest.mark.parametrize("inside", [".", "north/deposits", ".."])
def test_a_source_in_the_work_folder_or_around_it_is_refused(tmp_path: Path, inside: str) -> None:
    workdir = tmp_path / "work"
    with pytest.raises(Unusable, match="keep the two apart"):
        check_apart([str(workdir / inside)], workdir)
    check_apart([str(tmp_path / "workshop")], workdir)


def test_the_same_folder_twice_makes_two_deposits(folder: Path, built: Path) -> None:
    one, other = take(built, folder, folder)
    assert (one.request.local_id, other.request.local_id) == ("annual reports", "annual reports (2)")
    assert one.request.key != other.request.key
