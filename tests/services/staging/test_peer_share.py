"""One other node takes no more of a staging volume than its share, and keeps no room while it is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dpn.clock import ManualClock
from dpn.database import Sessions
from dpn.errors import NoSpace
from dpn.staging.staging import Staging
from tests.services.staging.conftest import MEBIBYTE, Disk, mounted

NewItem = Callable[..., int]

SHARE = 45 * MEBIBYTE
"""Half of what can be staged: of 100 MiB, 10 stay free."""


def test_one_node_takes_no_more_than_its_share_of_a_volume(staging: Staging, new_item: NewItem) -> None:
    staging.reserve(new_item(remote_node="north"), "main", 30 * MEBIBYTE)
    further = new_item(remote_node="north")
    with pytest.raises(NoSpace) as raised:
        staging.reserve(further, "main", 16 * MEBIBYTE)
    for figure in (16 * MEBIBYTE, SHARE, 30 * MEBIBYTE, "north", "staging.peer_share (0.5)"):
        assert str(figure) in str(raised.value)
    staging.reserve(new_item(remote_node="west"), "main", SHARE)
    staging.reserve(further, "main", 15 * MEBIBYTE)


def test_one_bag_takes_no_more_than_the_share_either(staging: Staging, new_item: NewItem) -> None:
    with pytest.raises(NoSpace, match=r"for larger bags raise staging\.peer_share"):
        staging.reserve(new_item(remote_node="north"), "main", SHARE + 1)


def test_what_came_already_counts_once(staging: Staging, new_item: NewItem) -> None:
    first = new_item(remote_node="north")
    staging.reserve(first, "main", 30 * MEBIBYTE)
    _stage(staging, first, 20 * MEBIBYTE)
    staging.reserve(new_item(remote_node="north"), "main", 15 * MEBIBYTE)


def test_what_lies_there_beyond_its_promise_counts(staging: Staging, new_item: NewItem) -> None:
    first = new_item(remote_node="north")
    staging.reserve(first, "main", 5 * MEBIBYTE)
    _stage(staging, first, 30 * MEBIBYTE)
    with pytest.raises(NoSpace, match=f"{30 * MEBIBYTE} of which are promised"):
        staging.reserve(new_item(remote_node="north"), "main", 16 * MEBIBYTE)


def test_who_was_promised_room_keeps_it_when_the_disk_is_filled_from_elsewhere(
    staging: Staging, new_item: NewItem, disk: Disk
) -> None:
    item = new_item(remote_node="north")
    staging.reserve(item, "main", SHARE)
    disk.capacity_bytes -= 20 * MEBIBYTE
    staging.reserve(item, "main", SHARE)


def test_our_own_work_has_no_share(staging: Staging, new_item: NewItem) -> None:
    staging.reserve(new_item(), "main", 90 * MEBIBYTE)


def test_a_node_that_has_its_share_of_one_volume_is_given_room_on_another(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, new_item: NewItem, disk: Disk
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    staging.reserve(new_item(remote_node="north"), "east", 40 * MEBIBYTE)
    staging.reserve(new_item(), "west", 45 * MEBIBYTE)  # there is more room in the east
    item = new_item(remote_node="north")
    assert staging.reserve_room(item, 40 * MEBIBYTE, token=1, begun_on=None) == "west"
    with pytest.raises(NoSpace):
        staging.reserve_room(new_item(remote_node="north"), 40 * MEBIBYTE, token=1, begun_on=None)


def test_while_its_sender_is_away_an_item_keeps_no_more_room_than_what_came_of_it(
    staging: Staging, new_item: NewItem
) -> None:
    item = new_item(remote_node="north")
    staging.reserve(item, "main", SHARE)
    _stage(staging, item, 5 * MEBIBYTE)
    staging.keep_what_came(item, "main")
    (health,) = staging.health()
    assert (health.reserved_bytes, health.to_come_bytes) == (5 * MEBIBYTE, 0)
    staging.reserve(new_item(), "main", 85 * MEBIBYTE)
    with pytest.raises(NoSpace):
        staging.reserve(new_item(remote_node="north"), "main", SHARE)


def _stage(staging: Staging, item: int, size: int) -> None:
    with staging.folder("main", item, 1) as folder:
        (folder.path / "bag.tar").write_bytes(b"x" * size)
