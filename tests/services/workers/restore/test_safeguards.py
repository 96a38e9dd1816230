"""What the requester can see is done only by who holds the item, and only as long as the bag is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from models.work import Status
from tests.fixtures.overheard import Overheard, take_over
from tests.services.workers.restore.handing_back import Holder


def run_late(north: Holder, item: int) -> list[Any]:
    """Runs the item once by a worker that loses it as it asks the requester; returns what it told all the same."""
    reachable = north.clients["south"]
    told: list[Any] = []
    north.clients["south"] = Overheard(reachable, lambda: take_over(north.sessions, item), told.append)
    assert north.run_due() == [item]
    north.clients["south"] = reachable
    return told


def poll_late(north: Holder, restore: str) -> list[Any]:
    north.clock.advance(north.settings.work.verdict_poll_seconds + 1)
    return run_late(north, north.the_item(restore).id)


def test_a_late_worker_promises_nothing(north: Holder) -> None:
    restore = north.requester.ask()
    north.cron()
    assert run_late(north, north.the_item(restore).id) == []
    assert not north.requester.record(restore).accepted


def test_a_late_worker_does_not_say_where_the_bag_lies(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.requester.tamper(restore, accepted=False, link=None)  # its registry is that of a backup
    assert poll_late(north, restore) == []


def test_a_late_worker_puts_nothing_out_and_takes_nothing_away(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.offered_to_south().unlink()
    poll_late(north, restore)
    assert not north.offered_to_south().exists()
    north.clock.advance(3600)
    north.run_all()
    assert north.offered_to_south().exists()
    north.requester.finish(restore)
    poll_late(north, restore)
    assert north.offered_to_south().exists()


@pytest.mark.parametrize("is_offered", [False, True])
def test_an_answer_that_ends_the_restore_ends_the_item_at_once(north: Holder, is_offered: bool) -> None:
    """Nothing more is read, or asked out of cold storage at a price, and nothing stays offered."""
    restore = north.requester.ask()
    if is_offered:
        north.hand_out(restore)
        north.requester.tamper(restore, accepted=False, link=None)
        north.clock.advance(north.settings.work.verdict_poll_seconds + 1)
    else:
        north.cron()
    cancelled = {"cancelled": True, "cancel_reason": "other", "cancel_reason_detail": "no longer needed"}
    north.clients["south"] = Overheard(north.clients["south"], heard=lambda record: record.change(**cancelled))
    north.run_due()
    ended = north.the_item(restore)
    assert (ended.status, north.offered()) == (Status.CANCELLED, []), ended.note
    assert ended.stage == ("deliver" if is_offered else "restore-init")
