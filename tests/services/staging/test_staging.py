"""Volumes at start, staged files, and what is swept away, over a real database."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from dpn.clock import ManualClock
from dpn.database import Sessions
from dpn.errors import LeaseLost, Misconfigured, NoSpace
from dpn.staging import orphans
from dpn.staging.orphans import StagedEvidence
from dpn.staging.staging import Staging
from models.manifests import ReplicationManifest, StagedFile
from models.work import StagingVolume, Status, WorkItem
from tests.services.staging.conftest import MEBIBYTE, Disk, mounted
from workers.pipelines import PIPELINES

NewItem = Callable[..., int]
BAG = "00000000-0000-4000-a000-000000000001"
DAY_SECONDS = 86_400.0


def test_a_volume_is_known_once_it_was_mounted(staging: Staging, sessions: Sessions) -> None:
    with sessions() as session:
        assert session.scalars(select(StagingVolume.name)).all() == ["main"]
    assert staging.volumes == ("main",)


def test_an_empty_mount_point_is_not_mistaken_for_a_known_volume(
    staging: Staging, sessions: Sessions, clock: ManualClock, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="mount the volume's disk"):
        mounted(sessions, clock, {"main": tmp_path / "elsewhere"})


def test_mounting_again_keeps_what_is_known(
    staging: Staging, sessions: Sessions, clock: ManualClock, tmp_path: Path, new_item: NewItem
) -> None:
    staging.reserve(new_item(), "main", 1)
    mounted(sessions, clock, {"main": tmp_path / "main"})
    with sessions() as session:
        assert session.scalars(select(StagingVolume.reservations_made)).all() == [1]


def test_a_staged_bag_is_held_only_whole(staging: Staging, new_item: NewItem) -> None:
    item = new_item()
    staged = _stage(staging, item, b"content")
    assert staging.holds(staged)
    assert staging.path_of(staged).read_bytes() == b"content"
    assert not staging.holds(staged.model_copy(update={"size": 8}))
    staging.path_of(staged).unlink()
    assert not staging.holds(staged)
    staging.path_of(staged).symlink_to("/etc/passwd")
    assert not staging.holds(staged.model_copy(update={"size": len("/etc/passwd")}))


def test_a_bag_on_a_disk_that_is_not_mounted_is_not_called_gone(
    staging: Staging, new_item: NewItem, tmp_path: Path
) -> None:
    staged = _stage(staging, new_item(), b"content")
    (tmp_path / "main").rename(tmp_path / "unmounted")
    (tmp_path / "main").mkdir()
    with pytest.raises(Misconfigured):
        staging.holds(staged)


def test_a_manifest_cannot_name_a_file_outside_staging(staging: Staging) -> None:
    for path in ("/etc/passwd", "items/1/2/../../../../etc/passwd", f"../{BAG}.tar"):
        with pytest.raises(ValueError, match="not the path of a staged bag"):
            staging.path_of(StagedFile(volume="main", path=path, size=1, tag_manifest_sha256=""))


def test_a_removed_item_leaves_nothing_and_others_stay(staging: Staging, new_item: NewItem) -> None:
    first, second = new_item(status=Status.SUCCESS), new_item()
    gone, kept = _stage(staging, first, b"x"), _stage(staging, second, b"y")
    staging.leave(first, 0)
    staging.leave(first, 0)
    assert not staging.holds(gone)
    assert staging.holds(kept)


@pytest.mark.parametrize(
    "taken_up", [{"status": Status.PENDING}, {"status": Status.RUNNING, "lease_token": 1}, {"lease_token": 2}]
)
def test_what_an_item_that_was_taken_up_again_has_staged_is_not_removed_by_who_ended_it(
    staging: Staging, new_item: NewItem, sessions: Sessions, taken_up: dict[str, object]
) -> None:
    item = new_item(status=Status.FAILED)
    staged = _stage(staging, item, b"x")
    with sessions.begin() as session:
        session.execute(update(WorkItem).where(WorkItem.id == item).values(**taken_up))
    assert staging.leave(item, 0, StagedEvidence(staged, {})) is None
    assert staging.holds(staged)


def test_an_item_that_is_taken_up_while_it_is_swept_keeps_what_it_has(
    staging: Staging, new_item: NewItem, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = new_item(status=Status.SUCCESS)
    staged = _stage(staging, item, b"x")
    really = orphans.unneeded

    def taken_up_after(*arguments: Any, **named: Any) -> Any:
        found = really(*arguments, **named)
        if not named.get("lock"):
            with sessions.begin() as session:
                session.execute(update(WorkItem).where(WorkItem.id == item).values(status=Status.PENDING))
        return found

    monkeypatch.setattr(orphans, "unneeded", taken_up_after)
    assert staging.sweep_orphans(PIPELINES.read_manifest, grace_seconds=-1e9) == []
    assert staging.holds(staged)


def test_a_bag_is_held_once_its_name_survives_a_power_cut(
    staging: Staging, new_item: NewItem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run that staged it may have failed at that very step."""
    item = new_item()
    staged, synced = _stage(staging, item, b"x"), list[Path]()
    monkeypatch.setattr("dpn.staging.staging.sync_folder", synced.append)
    assert staging.holds(staged)
    items = tmp_path / "main" / "items"
    assert synced == [items / str(item) / "3", items / str(item), items]


def test_after_the_database_was_put_back_an_item_goes_on_with_what_it_has_and_another_inherits_nothing(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    item = new_item(lease_token=2)
    staged = _stage(staging, item, b"x")  # by the holder of token 3
    with staging.folder("main", item, 2) as folder:
        assert (folder.path / f"{BAG}.tar").read_bytes() == b"x"
    assert not staging.holds(staged)
    with sessions.begin() as session:
        another = {"identifier": "another transfer", "lease_token": 1}
        session.execute(update(WorkItem).where(WorkItem.id == item).values(**another))
    with staging.folder("main", item, 1) as folder:
        assert not folder.adopted
        assert list(folder.path.glob("*.tar")) == []


def test_a_holder_who_lost_the_item_gets_no_folder(
    staging: Staging, new_item: NewItem, sessions: Sessions
) -> None:
    item = new_item(lease_token=3)
    staged = _stage(staging, item, b"x")
    with pytest.raises(LeaseLost), staging.folder("main", item, 2):
        pytest.fail("a former holder got a folder")
    assert staging.holds(staged)


def test_a_bag_in_quarantine_is_not_swept_with_its_item(
    staging: Staging, new_item: NewItem, tmp_path: Path
) -> None:
    item = new_item(status=Status.FAILED)
    where = staging.quarantine(_stage(staging, item, b"bad"), item, {"valid": False})
    staging.leave(item, 0)
    staging.sweep_orphans(PIPELINES.read_manifest, grace_seconds=0)
    assert (tmp_path / "main" / where).read_bytes() == b"bad"
    assert [pruned.item_id for pruned in staging.prune_quarantine(max_bytes=2)] == [item]


def test_quarantine_is_bounded_by_the_settings(staging: Staging, new_item: NewItem, clock: ManualClock) -> None:
    item = new_item(status=Status.FAILED)
    staging.quarantine(_stage(staging, item, b"bad"), item, {"valid": False})
    clock.advance(29 * DAY_SECONDS)
    assert staging.prune_quarantine() == []
    clock.advance(2 * DAY_SECONDS)
    assert staging.prune_quarantine() == [], "one look is not enough"
    clock.advance(DAY_SECONDS)
    assert [pruned.bound for pruned in staging.prune_quarantine()] == ["days"]


def test_only_folders_that_no_item_needs_are_swept(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    live = new_item(status=Status.PENDING)
    here = new_item(status=Status.PENDING, staging_volume="east")
    moved_away = new_item(status=Status.PENDING, staging_volume="west")
    over = [new_item(status=status) for status in (Status.SUCCESS, Status.FAILED, Status.CANCELLED)]
    unknown = 999_999
    fresh, used = new_item(status=Status.SUCCESS), new_item(status=Status.SUCCESS)
    everything = (live, here, moved_away, *over, unknown, fresh, used)
    for item in everything:
        _age(_stage_on(staging, "east", item), clock, days=0 if item == fresh else 2)
    (tmp_path / "east" / "items" / "notes").mkdir()
    with staging.folder("east", used, 3):
        _age(tmp_path / "east" / "items" / str(used), clock, days=2)
        assert staging.sweep_orphans(PIPELINES.read_manifest) == sorted([moved_away, *over, unknown])
    left = {path.name for path in (tmp_path / "east" / "items").iterdir()}
    assert left == {str(item) for item in (live, here, fresh, used)} | {"notes"}


def test_a_whole_bag_of_an_item_that_failed_is_swept_into_quarantine(
    staging: Staging, new_item: NewItem, sessions: Sessions, clock: ManualClock, tmp_path: Path
) -> None:
    """As after a crash between the item's end and what follows it."""
    items = {status: new_item() for status in (Status.FAILED, Status.CANCELLED, Status.SUCCESS)}
    unread = new_item()
    with sessions.begin() as session:
        for status, item in items.items():
            manifest = ReplicationManifest(staged=_stage(staging, item, b"bad")).model_dump(mode="json")
            changed = {"status": status, "manifest": manifest, "note": "because"}
            session.execute(update(WorkItem).where(WorkItem.id == item).values(changed))
        _stage(staging, unread, b"bad")
        changed = {"status": Status.FAILED, "manifest": {"manifest_version": 999}}
        session.execute(update(WorkItem).where(WorkItem.id == unread).values(changed))
    for folder in (tmp_path / "main" / "items").iterdir():
        _age(folder, clock, days=2)
    assert staging.sweep_orphans(PIPELINES.read_manifest) == sorted(items.values())
    kept = {int(path.parent.name) for path in (tmp_path / "main" / "quarantine").glob("*/*.tar")}
    assert kept == {items[Status.FAILED], items[Status.CANCELLED]}
    assert [path.name for path in (tmp_path / "main" / "items").iterdir()] == [str(unread)]


def test_a_folder_that_cannot_be_swept_stops_no_other(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, disk: Disk, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"east": tmp_path / "east", "west": tmp_path / "west"})
    spoilt = StagedFile(volume="west", path="items/../../etc/passwd", size=1, tag_manifest_sha256="ab" * 32)
    manifest = ReplicationManifest(staged=spoilt).model_dump(mode="json")
    first = new_item(status=Status.FAILED, manifest=manifest)
    second = new_item(status=Status.SUCCESS)
    for item in (first, second):
        _age(_stage_on(staging, "west", item), clock, days=2)
    (tmp_path / "east" / ".dpn-volume").unlink()
    with pytest.raises(ExceptionGroup, match="1 items' folders were swept, 2 could not be") as raised:
        staging.sweep_orphans(PIPELINES.read_manifest)
    assert [path.name for path in (tmp_path / "west" / "items").iterdir()] == [str(first)]
    assert ["is missing" in str(error) for error in raised.value.exceptions] == [True, False]


def test_a_thousand_folders_are_asked_about_in_batches(
    staging: Staging, sessions: Sessions, clock: ManualClock, tmp_path: Path
) -> None:
    for item in range(1, 1201):
        folder = tmp_path / "main" / "items" / str(item)
        folder.mkdir()
        _age(folder, clock, days=2)
    assert staging.sweep_orphans(PIPELINES.read_manifest) == list(range(1, 1201))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of sixteen MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_real_disk_everybody_who_was_promised_room_can_write(
    sessions: Sessions, clock: ManualClock, small_disk: Path, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"small": small_disk}, floor_bytes=MEBIBYTE)
    promised = [new_item(), new_item(), new_item()]
    staging.reserve(promised[0], "small", 4 * MEBIBYTE)
    staging.reserve(promised[1], "small", 4 * MEBIBYTE)
    _write(staging, promised[0], 2 * MEBIBYTE)  # half of one has come when the next one asks
    staging.reserve(promised[2], "small", 4 * MEBIBYTE)
    with pytest.raises(NoSpace, match="small"):
        staging.reserve(new_item(), "small", 4 * MEBIBYTE)
    for item in promised:
        _write(staging, item, 4 * MEBIBYTE)
    (health,) = staging.health()
    assert health.to_come_bytes == 0
    assert health.free_bytes >= MEBIBYTE


def test_when_items_end_their_room_is_there_for_the_next(
    sessions: Sessions, clock: ManualClock, small_disk: Path, new_item: NewItem
) -> None:
    staging = mounted(sessions, clock, {"small": small_disk}, floor_bytes=MEBIBYTE)
    for _ in range(5):
        item = new_item()
        staging.reserve(item, "small", 12 * MEBIBYTE)
        _write(staging, item, 12 * MEBIBYTE)
        with sessions.begin() as session:
            session.execute(update(WorkItem).where(WorkItem.id == item).values(status=Status.SUCCESS))
            staging.release(item, session)
        staging.leave(item, 0)


def _write(staging: Staging, item: int, size: int) -> None:
    with staging.folder("small", item, 1) as folder, (folder.path / f"{BAG}.tar").open("wb") as file:
        file.write(b"x" * size)
        file.flush()
        os.fsync(file.fileno())


def _stage(staging: Staging, item: int, content: bytes) -> StagedFile:
    with staging.folder("main", item, 3) as folder:
        path = folder.path / f"{BAG}.tar"
        path.write_bytes(content)
    return StagedFile(
        volume="main", path=staging.relative("main", path), size=len(content), tag_manifest_sha256="ab" * 32
    )


def _stage_on(staging: Staging, volume: str, item: int) -> Path:
    with staging.folder(volume, item, 3) as folder:
        (folder.path / f"{BAG}.tar").write_bytes(b"content")
    return folder.path.parent


def _age(folder: Path, clock: ManualClock, *, days: float) -> None:
    """Makes everything in the folder that old by the test's clock."""
    stamp = clock.now().timestamp() - days * DAY_SECONDS
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (stamp, stamp))


def test_an_item_ends_beside_a_volume_that_has_become_read_only(
    sessions: Sessions, clock: ManualClock, tmp_path: Path, small_disk: Path, new_item: NewItem
) -> None:
    volumes = {"main": tmp_path / "main", "small": small_disk}
    mounted(sessions, clock, volumes, floor_bytes=MEBIBYTE)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    staging = mounted(sessions, clock, volumes, floor_bytes=MEBIBYTE)
    item = new_item(status=Status.SUCCESS, lease_token=1)
    with staging.folder("main", item, 1) as folder:
        (folder.path / "a bag").write_bytes(b"...")
    staging.leave(item, 1)
    assert not (tmp_path / "main" / "items" / str(item)).exists()
    _, small = staging.health()
    assert "Read-only file system" in (small.problem or "")
