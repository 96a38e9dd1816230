"""A worker that dies between any two steps of handing a bag back leaves what ends as if nothing had happened: the
same news for the requester, one check of ours, nothing staged, reserved or offered. A link leads to the bag.

Steps are all that changes something: calls to the store, the staging volume, the outbound folder and the
requester, judging, each commit. A death after a mere look is one before it.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import workers.fixity.check
from dpn.audit.trail import EventType
from models.work import Task
from tests.fixtures.in_full import in_full
from tests.fixtures.mortality import OUTBOUND, Life, dies_once, require_the_same_end
from tests.services.workers.fixity.checking import LOOK_AGAIN_SECONDS, damage
from tests.services.workers.fixity.cold_stores import SlowFolder
from tests.services.workers.restore.handing_back import Holder, holder_and_requester

LOOKS = {
    *("staging.holds", "staging.path_of", "staging.relative", "store.availability", "store.open_in_place"),
    "south.get_restore",
}
FLIP = "bit flip in the payload"
STEPS = ((workers.fixity.check, "judge", "judge"), *OUTBOUND)


class WorkersLife(Life):
    """Ends with a step, not with a look."""

    def moment(self, name: str) -> None:
        if name not in LOOKS:
            super().moment(name)


def hand_back(north: Holder, life: Life, end: str) -> dict[str, Any]:
    """The story of one restore, its worker dying once on the way; returns all that is left in the end."""
    restore = north.requester.ask()
    north.hear_of(restore)
    north.queue()
    dies_once(north, life, lambda: to_the_end(north, restore, end), STEPS)
    north.take_away_offers()
    north.clean_up()
    return what_is_left(north, restore)


def to_the_end(north: Holder, restore: str, end: str) -> None:
    for _ in range(16):
        item, record = north.the_item(restore), north.requester.record(restore)
        notice = north.item_of(restore, Task.NOTICE)
        if item.completed_at is not None and (notice is None or notice.completed_at is not None):
            return
        if record.link is not None and not record.is_final:
            if end == "fetched":
                assert north.offered_to_south().read_bytes() == north.tar.read_bytes(), "the link leads to the bag"
                north.requester.finish(restore)
            else:
                north.clock.advance(timedelta(days=north.settings.restore.keep_offered_days).total_seconds())
        if not north.run_due():
            north.clock.advance(LOOK_AGAIN_SECONDS + 1)
    raise AssertionError(f"it does not end: {north.the_item(restore).note}")


def what_is_left(north: Holder, restore: str) -> dict[str, Any]:
    item, record, store = north.the_item(restore), north.requester.record(restore), north.store
    notice = north.item_of(restore, Task.NOTICE)
    return {
        "item": (item.status, item.stage, item.needs_attention),
        "told": (record.accepted, record.link, record.finished, record.cancel_reason, record.cancel_reason_detail),
        "notice": None if notice is None else notice.status,
        "records": [check.success for check in north.records()],
        "checks told": [told.outcome for told in north.events(item.id)],
        "billed": store.billed if isinstance(store, SlowFolder) else 0,
        "offers told": [told.outcome for told in north.events(item.id, EventType.DISSEMINATION)],
        "copy": north.copy().outcome,
        "reservations": north.reservations(),
        "staged": north.staged(),
        "offered": north.offered(),
        "quarantined": [path.stat().st_size for path in north.quarantined()],
    }


@pytest.mark.parametrize(
    ("where", "how", "end"),
    [
        ("folder", None, "fetched"),
        ("cold", None, "not fetched"),
        pytest.param("folder", FLIP, "declined", marks=in_full),
    ],
)
def test_a_worker_that_dies_at_any_moment_changes_nothing_about_the_end(
    tmp_path: Path,
    migrated_sqlite: Path,
    where: str,
    how: str | None,
    end: str,
) -> None:
    def story(number: int, life: Life) -> dict[str, Any]:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        shutil.copy(migrated_sqlite, folder / "node.db")
        with holder_and_requester(folder) as north:
            if where == "cold":
                north.store = SlowFolder(north.store, north.clock)  # type: ignore[assignment]
            if how is not None:
                stored = Path(north.receipt.url.removeprefix("file://"))
                content = damage(stored.read_bytes(), how)
                stored.unlink()
                stored.write_bytes(content or b"")
            return hand_back(north, life, end)

    undisturbed = WorkersLife()
    expected = story(0, undisturbed)
    status = {"fetched": "success", "not fetched": "cancelled", "declined": "failed"}[end]
    assert expected["item"][0] == status
    assert expected["records"] == [how is None]
    assert expected["notice"] == (None if end == "fetched" else "success")
    assert expected["told"][3] == (None if end == "fetched" else "other")
    assert expected["billed"] == (where == "cold")
    assert (expected["staged"], expected["reservations"], expected["offered"]) == ([], 0, [])
    require_the_same_end(story, expected, undisturbed.moments, life=WorkersLife)
