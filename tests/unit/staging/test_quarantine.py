"""Invalid bags are put aside whole with their report, and never fill the disk."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dpn.staging.quarantine import REPORT, Pruned, prune, put_aside
from dpn.staging.volumes import Volume
from models.manifests import StagedFile

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
BAG = "00000000-0000-4000-a000-000000000001"
REPORT_OF_ERRORS = {"valid": False, "first_error": "payload-file-missing"}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume("main", tmp_path)
    made.set_up(known=False)
    return made


def test_a_bag_is_moved_with_its_report_beside_it(volume: Volume) -> None:
    staged = _stage(volume, 7, 100)
    number = volume.staged_path(staged.path).stat().st_ino
    where = put_aside(volume, staged, 7, REPORT_OF_ERRORS, now=NOW)
    assert where == f"quarantine/7/{BAG}.tar"
    assert (volume.path / where).stat().st_ino == number
    assert not volume.staged_path(staged.path).exists()
    document = json.loads((volume.path / "quarantine/7" / REPORT).read_text())
    assert document["report"] == REPORT_OF_ERRORS
    assert document["quarantined_at"] == NOW.isoformat()
    assert document["staged"]["tag_manifest_sha256"] == "ab" * 32


def test_putting_aside_may_be_repeated_after_a_crash(volume: Volume) -> None:
    staged = _stage(volume, 7, 100)
    where = put_aside(volume, staged, 7, REPORT_OF_ERRORS, now=NOW)
    assert put_aside(volume, staged, 7, REPORT_OF_ERRORS, now=NOW + timedelta(days=1)) == where
    assert _bytes_kept(volume) == 100


def test_a_crash_between_report_and_move_loses_nothing(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = _stage(volume, 7, 100)
    with monkeypatch.context() as crash:
        crash.setattr(Path, "rename", _crash)
        with pytest.raises(KeyboardInterrupt):
            put_aside(volume, staged, 7, REPORT_OF_ERRORS, now=NOW)
    assert volume.staged_path(staged.path).exists()
    put_aside(volume, staged, 7, REPORT_OF_ERRORS, now=NOW)
    assert _bytes_kept(volume) == 100


def test_a_bag_that_is_in_neither_place_cannot_be_put_aside(volume: Volume) -> None:
    staged = _stage(volume, 7, 100)
    volume.staged_path(staged.path).unlink()
    with pytest.raises(FileNotFoundError):
        put_aside(volume, staged, 7, REPORT_OF_ERRORS, now=NOW)
    assert not list(volume.quarantine.iterdir())


def test_what_is_older_than_its_days_goes_with_its_report(volume: Volume) -> None:
    _quarantine(volume, 1, 100, days_ago=32)
    _quarantine(volume, 2, 100, days_ago=29)
    assert looks(volume, NOW - timedelta(days=1, hours=1), NOW) == [
        Pruned("main", 1, 100, NOW - timedelta(days=32), "days")
    ]
    assert [path.name for path in volume.quarantine.iterdir()] == ["2"]


def test_a_clock_that_is_ahead_for_a_moment_empties_nothing(volume: Volume) -> None:
    _quarantine(volume, 1, 100, days_ago=1)
    for wrong in (365, 365.1):
        assert looks(volume, NOW + timedelta(days=wrong)) == []
    assert looks(volume, NOW, NOW + timedelta(days=2)) == []
    assert _bytes_kept(volume) == 100
    assert looks(volume, NOW + timedelta(days=30), NOW + timedelta(days=30, hours=23)) == []
    assert [one.bound for one in looks(volume, NOW + timedelta(days=31, hours=1))] == ["days"]
    assert not list(volume.quarantine.iterdir())


def test_when_there_are_too_many_bytes_the_oldest_bags_go_and_their_reports_stay(volume: Volume) -> None:
    for item_id, days_ago in ((1, 5), (2, 9), (3, 1), (4, 7)):
        _quarantine(volume, item_id, 100, days_ago=days_ago)
    removed = prune(volume, now=NOW, max_days=30, max_bytes=250)
    assert [(pruned.item_id, pruned.bound) for pruned in removed] == [(2, "bytes"), (4, "bytes")]
    assert _bytes_kept(volume) == 200
    assert len(list(volume.quarantine.glob(f"*/{REPORT}"))) == 4
    assert prune(volume, now=NOW, max_days=30, max_bytes=250) == []


def test_a_bag_that_alone_is_over_the_bound_goes_too(volume: Volume) -> None:
    _quarantine(volume, 1, 1000, days_ago=1)
    assert [pruned.bytes for pruned in prune(volume, now=NOW, max_days=30, max_bytes=999)] == [1000]
    assert (volume.quarantine / "1" / REPORT).exists()
    assert _bytes_kept(volume) == 0


def test_a_report_without_its_bag_goes_when_its_days_are_over(volume: Volume) -> None:
    _quarantine(volume, 1, 1000, days_ago=1)
    prune(volume, now=NOW, max_days=30, max_bytes=0)
    over = NOW + timedelta(days=29, hours=1)
    assert looks(volume, over, over + timedelta(days=1), max_bytes=0)[0].bound == "days"
    assert not list(volume.quarantine.iterdir())


@pytest.mark.parametrize(
    "report", ["", "[]", "{}", '{"quarantined_at": 5}', '{"quarantined_at": "2024-01-01"}', "\xff"]
)
def test_a_damaged_report_leaves_the_bags_age_known(volume: Volume, report: str) -> None:
    _quarantine(volume, 1, 100, days_ago=1)
    folder = volume.quarantine / "1"
    (folder / REPORT).write_bytes(report.encode("latin-1"))
    long_ago = (NOW - timedelta(days=31)).timestamp()
    os.utime(folder, (long_ago, long_ago))
    assert [pruned.item_id for pruned in looks(volume, NOW, NOW + timedelta(days=1))] == [1]


def test_what_is_not_ours_in_quarantine_is_left_alone(volume: Volume) -> None:
    (volume.quarantine / "notes").mkdir()
    (volume.quarantine / "notes" / "x").write_bytes(b"x" * 100)
    assert prune(volume, now=NOW, max_days=0, max_bytes=0) == []
    assert (volume.quarantine / "notes" / "x").exists()


def looks(volume: Volume, *times: datetime, max_bytes: int = 10**9) -> list[Pruned]:
    """What all of these looks remove."""
    return [one for now in times for one in prune(volume, now=now, max_days=30, max_bytes=max_bytes)]


def _stage(volume: Volume, item_id: int, size: int) -> StagedFile:
    staged = StagedFile(
        volume="main", path=f"items/{item_id}/3/{BAG}.tar", size=size, tag_manifest_sha256="ab" * 32
    )
    path = volume.staged_path(staged.path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * size)
    return staged


def _quarantine(volume: Volume, item_id: int, size: int, *, days_ago: float) -> None:
    put_aside(volume, _stage(volume, item_id, size), item_id, REPORT_OF_ERRORS, now=NOW - timedelta(days=days_ago))


def _bytes_kept(volume: Volume) -> int:
    return sum(path.stat().st_size for path in volume.quarantine.glob("*/*.tar"))


def _crash(*_: object) -> None:
    raise KeyboardInterrupt
