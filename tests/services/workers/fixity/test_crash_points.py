"""A worker that dies between any two steps of a check leaves one that ends as if nothing had happened: the same
verdict, recorded once, told once, asked for once; nothing staged, nothing reserved.

Steps are every call to the store and the staging volume, judging the bag, and every commit.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

import workers.fixity.check
from dpn.audit.trail import EventType
from tests.fixtures.mortality import Killed, Life, dies_once, require_the_same_end
from tests.services.workers.fixity.checking import LEASE_SECONDS, LOOK_AGAIN_SECONDS, Checker, damage, make_checker
from tests.services.workers.fixity.cold_stores import SlowFolder

FLIP = "bit flip in the payload"


def check(north: Checker, life: Life) -> dict[str, Any]:
    """The story of one check, its worker dying once on the way; returns all that is left in the end."""
    item = north.begin()
    dies_once(north, life, lambda: _to_the_end(north, item), [(workers.fixity.check, "judge", "judge")])
    north.clean_up()
    return _what_is_left(north, item)


def _to_the_end(north: Checker, item: int) -> None:
    for _ in range(12):
        if north.item(item).completed_at is not None:
            return
        if not north.run_due():
            north.clock.advance(LOOK_AGAIN_SECONDS + 1)
    raise AssertionError(f"it does not end: {north.item(item).note}")


def _what_is_left(north: Checker, item_id: int) -> dict[str, Any]:
    item, store = north.item(item_id), north.store
    return {
        "item": (item.status, item.stage, item.needs_attention),
        "records": [(check.fixity_check_id == item.identifier, check.success) for check in north.records()],
        "told": [told.outcome for told in north.events(item_id)],
        "billed": store.billed if isinstance(store, SlowFolder) else 0,
        "requests told": len(north.events(item_id, EventType.RESTORE_REQUESTED)),
        "quarantines told": len(north.events(item_id, EventType.QUARANTINE)),
        "copy": north.copy().outcome,
        "reservations": north.reservations(),
        "staged": north.staged(),
        "quarantined": [path.stat().st_size for path in north.quarantined()],
    }


def make(folder: Path, template: Path, where: str, how: str | None) -> Checker:
    folder.mkdir()
    shutil.copy(template, folder / "node.db")
    north = make_checker(folder)
    if where == "cold":
        north.store = SlowFolder(north.store, north.clock)  # type: ignore[assignment]
    if how is not None:
        stored = Path(north.receipt.url.removeprefix("file://"))
        content = damage(stored.read_bytes(), how)
        stored.unlink()
        if content is not None:
            stored.write_bytes(content)
    return north


@pytest.mark.parametrize(
    ("where", "how"), [("in place", None), ("in place", FLIP), ("cold", None), ("cold", FLIP), ("cold", "deleted")]
)
def test_a_worker_that_dies_at_any_moment_changes_nothing_about_the_end(
    tmp_path: Path, migrated_sqlite: Path, where: str, how: str | None
) -> None:
    def story(number: int, life: Life) -> dict[str, Any]:
        north = make(tmp_path / f"north-{number}", migrated_sqlite, where, how)
        left = check(north, life)
        north.sessions.kw["bind"].dispose()
        return left

    undisturbed = Life()
    expected = story(0, undisturbed)
    good = how is None
    assert expected["item"] == ("success" if good else "failed", "check", not good)
    assert expected["records"] == [(True, good)]
    assert expected["told"] == ["success" if good else "failure"]
    assert expected["billed"] == expected["requests told"] == (where == "cold" and how != "deleted")
    assert (expected["staged"], expected["reservations"]) == ([], 0)
    assert len(expected["quarantined"]) == expected["quarantines told"] == (where == "cold" and how == FLIP)
    require_the_same_end(story, expected, undisturbed.moments)


@pytest.mark.parametrize("good", [True, False])
def test_a_copy_that_changes_after_its_check_was_recorded_does_not_change_what_the_check_says(
    tmp_path: Path, migrated_sqlite: Path, good: bool
) -> None:
    north = make(tmp_path / "north", migrated_sqlite, "in place", None if good else FLIP)
    item = north.begin()

    def dies_once_it_is_recorded(_session: Any) -> None:
        if north.records():
            raise Killed("right after the record")

    event.listen(north.sessions, "after_commit", dies_once_it_is_recorded)
    with pytest.raises(Killed):
        _to_the_end(north, item)
    event.remove(north.sessions, "after_commit", dies_once_it_is_recorded)
    stored, whole = Path(north.receipt.url.removeprefix("file://")), north.tar.read_bytes()
    stored.unlink()
    stored.write_bytes((damage(whole, FLIP) or b"") if good else whole)
    north.clock.advance(LEASE_SECONDS + 1)
    _to_the_end(north, item)
    left = _what_is_left(north, item)
    assert left["item"] == ("success" if good else "failed", "check", not good)
    assert left["records"] == [(True, good)]
    assert left["told"] == ["success" if good else "failure"]
    assert left["copy"] == ("good" if good else "bad")
