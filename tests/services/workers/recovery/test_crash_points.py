"""A worker that dies between any two steps of a repair leaves one that ends as if nothing had happened: the good
copy in its place, one request, one check after, nothing staged, nothing reserved, nothing open.

Steps are every call to the store and the staging volume, fetching, judging, and every commit.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import workers.recovery.fetch
import workers.recovery.judge
from tests.conftest import Services
from tests.fixtures.mortality import Life, chosen, dies_once
from tests.services.workers.recovery.repair_bench import POLL_SECONDS, RepairBench, damage, repair_bench

STEPS = (
    (workers.recovery.fetch, "receive", "receive"),
    (workers.recovery.judge, "judge_received", "judge"),
)


def repair(north: RepairBench, life: Life, first_gives: str) -> dict[str, Any]:
    """The story of one repair whose worker dies once on the way; returns all that is left in the end.

    South is asked first; what it gives has had that misfortune (none: it is good). West gives a good copy.
    """
    north.spoil("truncated")
    north.find_bad()
    bad = damage(north.tar.read_bytes(), first_gives) if first_gives else None
    north.clock.advance(POLL_SECONDS + 1)
    dies_once(north, life, lambda: _to_the_end(north, bad), STEPS)
    north.clean_up()
    return _what_is_left(north)


def _to_the_end(north: RepairBench, bad: bytes | None) -> None:
    for _ in range(40):
        if north.repair().completed_at is not None and north.last_check().completed_at is not None:
            return
        _answer(north, bad)
        if not north.run_due():
            north.clock.advance(POLL_SECONDS + 1)
    raise AssertionError(f"it does not end: {north.repair().note}")


def _answer(north: RepairBench, bad: bytes | None) -> None:
    """What the other nodes do: their own processes, which do not die with north's."""
    for name, content in (("south", bad), ("west", None)):
        record = north.holders[name].asked()
        if record is not None and record.link is None:
            north.holders[name].offer(content)


def _what_is_left(north: RepairBench) -> dict[str, Any]:
    item, check = north.repair(), north.last_check()
    requests = north.requests()
    return {
        "item": (item.status, item.stage, item.needs_attention, item.note.replace(str(north.path.parent), "")),
        "check": (check.status, check.needs_attention),
        "records": sorted(record.success for record in north.records()),
        "requests": {name: (one.finished, one.cancelled) for name, one in requests.items()},
        "asked": [(one.node, one.ended is None) for one in north.recovery().asked],
        "copy": (north.copy().outcome, north.copy().item_id),
        "store": north.path.read_bytes() == north.tar.read_bytes(),
        "kept aside": len(north.quarantined()),
        "replaced told": [outcome for what, outcome in north.story() if what == "copy replaced"],
        "staged": north.staged(),
        "reserved": north.reservations(),
        "lying about": sorted(path.name for path in north.path.parent.iterdir()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("first_gives", ["", "bit flip in the payload"], ids=["good", "bad, then good"])
def test_a_repair_that_dies_anywhere_ends_the_same(
    tmp_path: Path,
    migrated_sqlite: Path,
    services: Services,
    first_gives: str,
) -> None:
    daemon = services.up("rsyncd")

    def told(ends_at: int | None) -> tuple[Life, dict[str, Any]]:
        life, folder = Life(ends_at), tmp_path / f"{ends_at}"
        folder.mkdir()
        shutil.copy(migrated_sqlite, folder / "node.db")
        with repair_bench(folder, daemon, served=False, database_url=f"sqlite:///{folder / 'node.db'}") as north:
            left = repair(north, life, first_gives)
        shutil.rmtree(folder)
        return life, left

    whole, expected = told(None)
    assert expected["item"][0] == "success", expected
    assert expected["store"]
    assert {"store.replace", "receive", "judge", "staging.folder"} <= set(whole.moments)
    for ends_at, name in chosen(whole.moments):
        life, left = told(ends_at)
        assert life.has_ended
        assert left == expected, f"killed after {ends_at}: {name}"
