"""A volume is given up only by a process that has watched for long: after an outage all others look gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from dpn.settings import Settings
from dpn.work.outcomes import Done
from dpn.work.schedule import presence
from dpn.work.schedule.presence import Presence
from models.manifests import ReplicationManifest, StagedFile
from tests.fixtures.scripted.bench import Bench
from workers.runner import housekeeping as housekeeping_module
from workers.runner.database_uptime import Witness
from workers.runner.housekeeping import Housekeeping

WATCH = "give up staging volumes that are gone"


@pytest.fixture
def keeping(bench: Bench, tmp_path: Path) -> Housekeeping:
    """Of a process that starts now."""
    settings = Settings.model_validate(
        {
            "node": {"namespace": "south", "api_root": "https://south.example.org"},
            "database": {"url": "sqlite:///unused"},
            "staging": {"volumes": {"b": str(tmp_path)}, "abandon_after_seconds": 600},
        }
    )
    return Housekeeping(
        settings=settings,
        sessions=bench.sessions,
        broker=bench.broker,
        staging=None,
        store=None,
        pipelines=bench.pipelines,
        worker_id="host/test/1",
        witness=Witness(bench.clock, longest_gap_seconds=settings.staging.abandon_after_seconds),
        clock=bench.clock,
        log=bench.runner("copy", lambda _: Done("done")).log,
    )


@pytest.fixture
def item(bench: Bench) -> int:
    """Staged on a volume whose last worker was seen days ago."""
    with bench.sessions.begin() as session:
        gone = Presence("host/a/1", "host", 1, ("validate",), ("a",))
        presence.register(session, gone, clock=bench.clock)
    bench.clock.advance(3 * 86_400)
    staged = StagedFile(volume="a", path="items/1/1/bag.tar", size=1, tag_manifest_sha256="0" * 64)
    manifest = ReplicationManifest(staged=staged).model_dump(mode="json")
    return bench.make_item(stage="validate", staging_volume="a", manifest=manifest)


def watch(bench: Bench, keeping: Housekeeping, seconds: float) -> None:
    """Looks as often as its worker does, for so long."""
    chore = next(chore for chore in keeping.chores() if chore.name == WATCH)
    chore.run()
    for _ in range(int(seconds / chore.every_seconds)):
        bench.clock.advance(chore.every_seconds)
        chore.run()


def test_a_process_that_has_just_started_gives_up_no_volume(
    bench: Bench, keeping: Housekeeping, item: int
) -> None:
    """All machines may have been away, and this one is back first."""
    watch(bench, keeping, 540)
    assert bench.item(item).stage == "validate"
    watch(bench, keeping, 60)
    assert bench.item(item).stage == "copy"


def test_after_an_outage_of_the_database_the_watch_begins_anew(
    bench: Bench, keeping: Housekeeping, item: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))

    watch(bench, keeping, 540)
    with monkeypatch.context() as outage:
        outage.setattr(housekeeping_module, "reading", away)
        with pytest.raises(OperationalError):
            keeping.abandon_volumes()
    watch(bench, keeping, 540)
    assert bench.item(item).stage == "validate"
    watch(bench, keeping, 60)
    assert bench.item(item).stage == "copy"
