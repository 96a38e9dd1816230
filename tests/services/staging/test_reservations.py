"""No volume is promised more than it has, and a promise ends with its item."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.engine import Engine

from dpn.clock import ManualClock
from dpn.database import Sessions
from dpn.errors import Misconfigured, NoSpace
from dpn.staging.settings import StagingSettings
from dpn.staging.staging import Staging
from dpn.staging.volumes import Volume
from models.work import DiskReservation, Status, WorkItem
from tests.services.staging.conftest import MEBIBYTE, Disk, mounted
from workers.pipelines import PIPELINES

NewItem = Callable[..., int]


def test_what_is_promised_is_not_promised_again(staging: Staging, new_item: NewItem) -> None:
    staging.reserve(new_item(), "main", 60 * MEBIBYTE)
    late = new_item()
    with pytest.raises(NoSpace) as raised:
        staging.reserve(late, "main", 31 * MEBIBYTE)
    for figure in (31 * MEBIBYTE, 30 * MEBIBYTE, 10 * MEBIBYTE):
        assert str(figure) in str(raised.value)
    assert "enlarge it or add a volume" in str(raised.value)
    staging.reserve(late, "main", 30 * MEBIBYTE)


def test_many_at_once_never_get_more_than_there_is(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    items = [new_item() for _ in range(16)]
    refused: list[int] = []
    start = threading.Barrier(len(items))

    def reserve(item_id: int) -> None:
        start.wait()
        try:
            staging.reserve(item_id, "main", 20 * MEBIBYTE)
        except NoSpace:
            refused.append(item_id)

    threads = [threading.Thread(target=reserve, args=(item_id,)) for item_id in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_reservations(sessions)) == 4
    assert len(refused) == 12


def test_bytes_that_have_come_are_not_counted_twice(staging: Staging, new_item: NewItem) -> None:
    first, second = new_item(), new_item()
    staging.reserve(first, "main", 60 * MEBIBYTE)
    with staging.folder("main", first, 1) as folder:
        (folder.path / "bag.tar").write_bytes(b"x" * (40 * MEBIBYTE))
    (health,) = staging.health()
    assert (health.reserved_bytes, health.to_come_bytes) == (60 * MEBIBYTE, 20 * MEBIBYTE)
    assert health.free_bytes == 60 * MEBIBYTE
    assert health.room_bytes == 30 * MEBIBYTE
    staging.reserve(second, "main", 30 * MEBIBYTE)


def test_a_file_larger_than_its_promise_gives_nothing_back(staging: Staging, new_item: NewItem) -> None:
    first, second = new_item(), new_item()
    staging.reserve(first, "main", 10 * MEBIBYTE)
    with staging.folder("main", first, 1) as folder:
        (folder.path / "bag.tar").write_bytes(b"x" * (40 * MEBIBYTE))
    with pytest.raises(NoSpace):
        staging.reserve(second, "main", 51 * MEBIBYTE)


def test_reserving_again_replaces_and_counts_what_is_there(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    item = new_item()
    for size in (90, 90, 20, 90):
        staging.reserve(item, "main", size * MEBIBYTE)
    assert _reservations(sessions) == {item: 90 * MEBIBYTE}
    with staging.folder("main", item, 1) as folder:
        (folder.path / "bag.tar").write_bytes(b"x" * (80 * MEBIBYTE))
    staging.reserve(item, "main", 90 * MEBIBYTE)


def test_a_disk_that_was_filled_from_elsewhere_makes_even_a_promise_wait(
    staging: Staging, new_item: NewItem, disk: Disk, sessions: Sessions
) -> None:
    item = new_item()
    staging.reserve(item, "main", 50 * MEBIBYTE)
    disk.capacity_bytes = 40 * MEBIBYTE
    with pytest.raises(NoSpace):
        staging.reserve(item, "main", 50 * MEBIBYTE)
    assert _reservations(sessions) == {item: 50 * MEBIBYTE}


def test_a_promise_survives_a_restart_and_ends_when_released(
    staging: Staging, new_item: NewItem, sessions: Sessions, clock: ManualClock, tmp_path: Path
) -> None:
    first, second = new_item(), new_item()
    staging.reserve(first, "main", 90 * MEBIBYTE)
    restarted = mounted(sessions, clock, {"main": tmp_path / "main"})
    with pytest.raises(NoSpace):
        restarted.reserve(second, "main", 1)
    restarted.release(first)
    restarted.release(first)
    restarted.reserve(second, "main", 90 * MEBIBYTE)


@pytest.mark.parametrize("begun_on", ["main", None])
def test_an_item_never_waits_for_its_own_bytes_to_go(
    staging: Staging, new_item: NewItem, tmp_path: Path, begun_on: str | None
) -> None:
    item = new_item()
    staging.reserve_room(item, 80 * MEBIBYTE, token=5, begun_on=None)
    left = tmp_path / "main" / "items" / str(item)
    for place, size in (("2", 10), ("4/.building-x", 50), ("4/fetched/objects/deep", 20), (".removed-1-ab", 10)):
        (left / place).mkdir(parents=True)
        (left / place / "bag.tar").write_bytes(b"x" * (size * MEBIBYTE))
    assert staging.reserve_room(item, 80 * MEBIBYTE, token=6, begun_on=begun_on) == "main"
    assert {path.name for path in left.iterdir()} == {".item", "6"}, "what it does not go on from is gone"
    (health,) = staging.health()
    assert health.to_come_bytes == pytest.approx(10 * MEBIBYTE, abs=MEBIBYTE)


def test_what_it_left_and_will_remove_is_room_for_it(staging: Staging, new_item: NewItem, disk: Disk) -> None:
    item = new_item()
    with staging.folder("main", item, 1) as folder:
        (folder.path / ".building-x").mkdir()
        (folder.path / ".building-x" / "bag.tar").write_bytes(b"x" * (30 * MEBIBYTE))
    disk.capacity_bytes = 39 * MEBIBYTE  # less is free than must be
    staging.reserve(item, "main", 20 * MEBIBYTE)
    with pytest.raises(NoSpace, match="needs 0 more bytes"):
        staging.reserve(item, "main", 30 * MEBIBYTE)


def test_items_that_were_stopped_half_way_do_not_wait_for_each_other(staging: Staging, new_item: NewItem) -> None:
    items = new_item(), new_item()
    for item in items:
        staging.reserve(item, "main", 45 * MEBIBYTE)
    for item in items:
        with staging.folder("main", item, 1) as folder:
            staging.note_tree(folder, "fetched/objects")
            objects = folder.path / "fetched" / "objects"
            objects.mkdir(parents=True)
            (objects / "a.tar").write_bytes(b"x" * (20 * MEBIBYTE))
    refused = []
    for item in items * 2:
        try:
            staging.reserve_room(item, 45 * MEBIBYTE, token=2, begun_on="main", large_tree="fetched/objects")
        except NoSpace:
            refused.append(item)
    assert refused == [items[0]], "once the other one's bytes are known, it goes on"


def test_what_is_there_already_is_not_left_to_move_to_another_volume(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    item = new_item()
    staging.reserve(item, "west", 60 * MEBIBYTE)
    with staging.folder("west", item, 1) as folder:
        (folder.path / "bag.tar").write_bytes(b"x" * (40 * MEBIBYTE))
    assert staging.reserve_room(item, 60 * MEBIBYTE, token=2, begun_on=None) == "west"
    staging.reserve(new_item(), "west", 30 * MEBIBYTE)
    assert staging.reserve_room(item, 80 * MEBIBYTE, token=2, begun_on="west") == "east"


def test_what_an_item_was_promised_itself_is_not_in_its_way(staging: Staging, new_item: NewItem) -> None:
    item = new_item()
    staging.reserve(item, "main", 60 * MEBIBYTE)
    assert staging.reserve_room(item, 60 * MEBIBYTE, token=1, begun_on=None) == "main"


def test_a_promise_is_lowered_never_raised_and_never_refused(
    staging: Staging, new_item: NewItem, sessions: Sessions, disk: Disk
) -> None:
    item, other = new_item(), new_item()
    staging.reserve(item, "main", 50 * MEBIBYTE)
    disk.capacity_bytes = 5 * MEBIBYTE
    for size in (40, 60):
        staging.lower(item, size * MEBIBYTE)
        staging.lower(other, size * MEBIBYTE)
    assert _reservations(sessions) == {item: 40 * MEBIBYTE}


def test_a_release_belongs_to_the_transaction_that_it_is_in(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    item = new_item()
    staging.reserve(item, "main", 5)
    with sessions() as session:
        staging.release(item, session)
        session.rollback()
    assert _reservations(sessions) == {item: 5}
    with sessions.begin() as session:
        staging.release(item, session)
    assert _reservations(sessions) == {}


def test_promises_to_items_that_are_over_are_taken_back_in_one_statement(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    kept = [new_item(status=status) for status in (Status.PENDING, Status.RUNNING)]
    over = [new_item() for _ in range(3)]
    for item in kept + over:
        staging.reserve(item, "main", 5)
    with sessions.begin() as session:
        for item, status in zip(over, (Status.SUCCESS, Status.FAILED, Status.CANCELLED), strict=True):
            session.execute(update(WorkItem).where(WorkItem.id == item).values(status=status))
    with counted(sessions) as statements:
        assert staging.release_orphans() == 3
    assert len(statements) == 1
    assert set(_reservations(sessions)) == set(kept)


def test_reserving_asks_as_often_whether_one_or_a_hundred_have_reserved(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    counts = []
    for _ in range(2):
        item = new_item()
        with counted(sessions) as statements:
            staging.reserve(item, "main", 5)
        counts.append(len(statements))
        for _ in range(100):
            staging.reserve(new_item(), "main", 5)
    assert counts[0] == counts[1]


def test_the_volume_with_most_room_is_chosen(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    staging.reserve(new_item(), "east", 30 * MEBIBYTE)
    assert staging.choose_volume(80 * MEBIBYTE) == "west"
    with pytest.raises(NoSpace, match=f"east has room for {60 * MEBIBYTE}, west has room for {90 * MEBIBYTE}"):
        staging.choose_volume(91 * MEBIBYTE)


def test_room_on_one_volume_is_not_room_on_another(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    item = new_item()
    staging.reserve(new_item(), "east", 90 * MEBIBYTE)
    staging.reserve(item, "west", 90 * MEBIBYTE)
    staging.release(item)
    staging.reserve(item, "west", 90 * MEBIBYTE)


def test_a_volume_whose_disk_is_gone_gets_nothing_and_says_so(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    (tmp_path / "east" / ".dpn-volume").unlink()
    assert staging.choose_volume(1) == "west"
    with pytest.raises(Misconfigured, match="east"):
        staging.reserve(new_item(), "east", 1)
    east, west = staging.health()
    assert east.problem is not None
    assert west.problem is None
    (tmp_path / "west" / ".dpn-volume").unlink()
    with pytest.raises(Misconfigured, match=r"east.*west"):
        staging.choose_volume(1)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EACCES])
def test_a_volume_that_takes_no_writes_gets_nothing_while_another_does(
    sessions: Sessions,
    clock: ManualClock,
    tmp_path: Path,
    disk: Disk,
    new_item: NewItem,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    item, begun = new_item(), new_item()
    staging.reserve(new_item(), "west", 30 * MEBIBYTE)  # there is more room in the east
    with staging.folder("east", begun, 1):
        pass

    def fails(volume: Volume, **_: object) -> None:
        if volume.name == "east":
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Volume, "try_writing", fails)
    assert staging.reserve_room(item, MEBIBYTE, token=1, begun_on=None) == "west"
    for begun_on in (None, "east"):
        assert staging.reserve_room(begun, MEBIBYTE, token=2, begun_on=begun_on) == "west"
    east, _ = staging.health()
    assert east.problem is not None
    assert os.strerror(number) in east.problem


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_worker_starts_beside_a_volume_that_takes_no_writes_and_uses_it_once_it_does(
    sessions: Sessions,
    clock: ManualClock,
    tmp_path: Path,
    disk: Disk,
    new_item: NewItem,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    is_known: bool,
) -> None:
    volumes = {"east": tmp_path / "east", "west": tmp_path / "west"}
    if is_known:
        mounted(sessions, clock, volumes)
    writes = Volume.try_writing

    def fails(volume: Volume, **how: bool) -> None:
        if volume.name == "east":
            raise OSError(number, os.strerror(number))
        writes(volume, **how)

    with monkeypatch.context() as broken:
        broken.setattr(Volume, "try_writing", fails)
        staging = mounted(sessions, clock, volumes)
        item = new_item()
        assert staging.reserve_room(item, MEBIBYTE, token=1, begun_on=None) == "west"
        east, west = staging.health()
        assert os.strerror(number) in (east.problem or "")
        assert west.problem is None
        assert staging.sweep_orphans(PIPELINES.read_manifest) == []
        assert staging.prune_quarantine() == []
    assert [volume.problem for volume in staging.health()] == [None, None]
    staging.reserve(new_item(), "west", 30 * MEBIBYTE)
    assert staging.reserve_room(new_item(), MEBIBYTE, token=1, begun_on=None) == "east"
    mounted(sessions, clock, volumes)


def test_what_the_settings_have_wrong_still_stops_a_worker(
    sessions: Sessions, clock: ManualClock, tmp_path: Path
) -> None:
    mounted(sessions, clock, {"east": tmp_path / "east"})
    (tmp_path / "east" / ".dpn-volume").write_text("another")
    with pytest.raises(Misconfigured, match="mount the right disk there"):
        mounted(sessions, clock, {"east": tmp_path / "east"})
    gone = Staging(sessions, StagingSettings(volumes={"gone": tmp_path / "gone"}), clock=clock)
    with pytest.raises(Misconfigured, match="is no folder"):
        gone.mount()


def test_a_volume_of_another_machine_is_not_ours_to_use(staging: Staging, new_item: NewItem) -> None:
    with pytest.raises(Misconfigured, match="'far' is not mounted on this machine"):
        staging.reserve(new_item(), "far", 1)


class counted:  # noqa: N801  (reads as the statement it is)
    """The statements that reach the database in the block, without BEGIN and COMMIT."""

    def __init__(self, sessions: Sessions) -> None:
        self._engine: Engine = sessions.kw["bind"]
        self.statements: list[str] = []

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self.statements

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("BEGIN", "COMMIT")):
            self.statements.append(statement)


def _reservations(sessions: Sessions) -> dict[int, int]:
    with sessions() as session:
        return {row.item_id: row.bytes for row in session.scalars(select(DiskReservation))}
