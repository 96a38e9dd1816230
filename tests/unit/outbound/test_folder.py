"""What is offered to other nodes: there whole under its name, once on the disk, gone only when it is withdrawn."""

from __future__ import annotations

import errno
import grp
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dpn.errors import Misconfigured
from dpn.outbound.folder import NotOurBag, Offer, Outbound
from dpn.outbound.settings import OutboundSettings
from dpn.outbound.withdrawal import is_unneeded
from tests.fixtures.records import uuid

BAG = uuid(1)


def outbound(folder: Path, **more: Any) -> Outbound:
    folder.mkdir(exist_ok=True)
    return Outbound(OutboundSettings(folder=folder, link="rsync://north/outbound/{node}/{bag}.tar", **more))


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "staged.tar"
    path.write_bytes(b"a bag")
    path.chmod(0o600)
    return path


def test_what_was_kept_by_who_died_over_it_is_made_durable_by_the_next(
    tmp_path: Path, tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = outbound(tmp_path / "out")
    out.offer(tar, BAG, "south")
    synced: list[Path] = []
    monkeypatch.setattr("dpn.outbound.folder.sync_folder", synced.append)
    out.offer(tar, BAG, "south")
    assert synced == [tmp_path / "out" / ".bags", tmp_path / "out" / "south"]


@pytest.mark.parametrize("form", ["hardlink", "symlink"])
def test_a_bag_offered_to_many_takes_its_room_once_and_outlives_the_staged_file(
    tmp_path: Path, tar: Path, form: str
) -> None:
    out = outbound(tmp_path / "out", form=form)
    for node in ("south", "west", "south"):
        out.offer(tar, BAG, node)
    tar.unlink()
    entries = list(out.entries())
    assert [(entry.bag, entry.node) for entry in entries] == [(BAG, None), (BAG, "south"), (BAG, "west")]
    assert {entry.path.read_bytes() for entry in entries} == {b"a bag"}
    assert len({entry.path.stat().st_ino for entry in entries}) == 1
    assert entries[1].path.stat().st_mode & 0o004
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_where_no_link_can_be_made_the_bag_is_copied(
    tmp_path: Path, tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        if Path(source) == tar:
            raise OSError(errno.EXDEV, "another file system")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    out = outbound(tmp_path / "out")
    out.offer(tar, BAG, "south")
    assert [entry.path.read_bytes() for entry in out.entries()] == [b"a bag", b"a bag"]


def test_something_else_under_the_bags_name_is_not_offered(tmp_path: Path, tar: Path) -> None:
    out = outbound(tmp_path / "out")
    (tmp_path / "out/.bags").mkdir()
    (tmp_path / f"out/.bags/{BAG}.tar").write_bytes(b"something else")
    with pytest.raises(NotOurBag, match="move it away"):
        out.offer(tar, BAG, "south")


def test_a_folder_that_is_not_mounted_is_an_error_not_an_empty_one(tmp_path: Path, tar: Path) -> None:
    out = outbound(tmp_path / "out")
    (tmp_path / "out").rmdir()
    with pytest.raises(Misconfigured, match="make or mount it"):
        out.offer(tar, BAG, "south")
    assert list(out.entries()) == []


def test_withdrawing_takes_one_offer_and_may_be_repeated(tmp_path: Path, tar: Path) -> None:
    out = outbound(tmp_path / "out")
    out.offer(tar, BAG, "south")
    out.offer(tar, BAG, "west")
    (south,) = [entry for entry in out.entries() if entry.node == "south"]
    out.withdraw(south)
    out.withdraw(south)
    assert [entry.node for entry in out.entries()] == [None, "west"]


@pytest.mark.parametrize("form", ["hardlink", "symlink"])
def test_what_was_withdrawn_is_found_until_it_is_discarded(tmp_path: Path, tar: Path, form: str) -> None:
    out = outbound(tmp_path / "out", form=form)
    out.offer(tar, BAG, "south")
    withdrawn = [out.withdraw(entry) for entry in list(out.entries())]
    assert list(out.entries()) == []
    assert not out.offers(BAG, "south")
    found = sorted(out.withdrawn(), key=lambda one: one.entry.node or "")
    assert found == withdrawn
    out.offer(tar, BAG, "south")
    again = out.withdraw(found[1].entry)
    assert again is not None
    assert again.id != found[1].id, "another withdrawal of the same"
    for one in (*found, again, *found):
        out.discard(one)
    assert list(out.withdrawn()) == []
    assert [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()] == [
        tmp_path / f"out/.bags/{BAG}.tar"
    ]


def test_what_others_put_there_is_left_alone(tmp_path: Path, tar: Path) -> None:
    out = outbound(tmp_path / "out")
    for name in ("readme.txt", "south/notes.tar", "South/x.tar", "south/sub/x.tar", "south/.x.withdrawn"):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert list(out.entries()) == []
    assert list(out.withdrawn()) == []


OFFER = Offer(BAG, "south", Path("x"))
KEPT = Offer(BAG, None, Path("y"))


@pytest.mark.parametrize(
    ("entry", "over", "under_way", "goes"),
    [
        (OFFER, {}, False, False),  # unknown: absence is no reason
        (OFFER, {"south": False}, False, False),
        (OFFER, {"south": True}, False, True),
        (OFFER, {"south": True}, True, True),  # that node has it, or declined
        (OFFER, {"west": True}, False, False),
        (KEPT, {}, False, False),
        (KEPT, {"south": True, "west": False}, False, False),
        (KEPT, {"south": True, "west": True}, False, True),
        (KEPT, {"south": True, "west": True}, True, False),  # another node may have to be asked
    ],
)
def test_what_may_go_is_decided_by_what_the_registry_knows(
    entry: Offer, over: dict[str, bool], under_way: bool, goes: bool
) -> None:
    assert is_unneeded(entry, over, under_way) is goes


@pytest.mark.parametrize("same_file_system", [True, False])
def test_under_a_strict_umask_the_nodes_accounts_can_read_it_all_the_same(
    tmp_path: Path, tar: Path, monkeypatch: pytest.MonkeyPatch, same_file_system: bool
) -> None:
    out = outbound(tmp_path / "out")
    real = os.link

    def link(source: Path, target: Path) -> None:
        if Path(source) == tar and not same_file_system:
            raise OSError(errno.EXDEV, "another file system")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    before = os.umask(0o027)
    try:
        out.offer(tar, BAG, "south")
    finally:
        os.umask(before)
    for path in (tmp_path / "out" / "south", tmp_path / "out" / ".bags"):
        assert path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "south" / f"{BAG}.tar").stat().st_mode & 0o777 == 0o644


def test_only_the_nodes_group_looks_into_its_folder_where_there_is_one(tmp_path: Path, tar: Path) -> None:
    group = grp.getgrnam("daemon") if os.geteuid() == 0 else grp.getgrgid(os.getegid())
    out, folder = outbound(tmp_path / "out", group="{node}"), tmp_path / "out" / group.gr_name
    folder.mkdir(0o755)  # of the time before
    out.offer(tar, BAG, group.gr_name)
    found = folder.stat()
    assert (found.st_gid, found.st_mode & 0o777) == (group.gr_gid, 0o750)
    assert (tmp_path / "out" / ".bags").stat().st_mode & 0o777 == 0o700
    assert (folder / f"{BAG}.tar").stat().st_mode & 0o777 == 0o644


def test_a_group_that_is_not_there_is_named_and_nothing_is_offered(tmp_path: Path, tar: Path) -> None:
    out = outbound(tmp_path / "out", group="no-such-group.{node}")
    with pytest.raises(Misconfigured, match=r"no-such-group\.south"):
        out.offer(tar, BAG, "south")
    assert not out.offers(BAG, "south")


@pytest.mark.parametrize(
    "more", [{"group": "all"}, {"group": "{bag}{node}"}, {"group": "{node}", "form": "symlink"}]
)
def test_a_group_is_the_nodes_own_and_hides_nothing_that_must_be_seen(
    tmp_path: Path, more: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match="group"):
        outbound(tmp_path / "out", **more)
