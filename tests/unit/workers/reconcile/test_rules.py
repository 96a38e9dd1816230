"""What is done about a transfer, for everything that its owner and we may have: no situation is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from models.work import Status
from tests.fixtures.records import a_transfer
from workers.reconcile.rules import Action, AtOwner, Here, Situation, decide, decide_restore

NOW = datetime(2024, 1, 1, tzinfo=UTC)
EVERYTHING = [Situation(*parts) for parts in product(AtOwner, Here, (False, True), Here)]


def steps(owner: AtOwner, item: Here, *, receipt: bool | None = None) -> set[Action]:
    """All that may be done there, whatever else is the case."""
    return {
        decide(one)
        for one in EVERYTHING
        if (one.owner, one.item) == (owner, item) and receipt in (None, one.has_receipt)
    }


def test_what_a_live_worker_holds_is_never_touched() -> None:
    assert {step for owner in AtOwner for step in steps(owner, Here.HELD)} == {Action.NOTHING}


def test_what_goes_on_as_it_should_is_left_alone() -> None:
    assert steps(AtOwner.OPEN, Here.OPEN) == {Action.NOTHING}
    assert steps(AtOwner.STORED, Here.SUCCEEDED, receipt=True) == {Action.NOTHING}
    assert steps(AtOwner.CANCELLED, Here.GIVEN_UP) == {Action.NOTHING}
    assert steps(AtOwner.CANCELLED, Here.NONE) == {Action.NOTHING}


def test_an_open_transfer_without_an_item_gets_one() -> None:
    assert steps(AtOwner.OPEN, Here.NONE) == {Action.MAKE}


@pytest.mark.parametrize("item", [Here.SUCCEEDED, Here.GIVEN_UP])
def test_a_proven_copy_that_its_owner_waits_for_is_told_again(item: Here) -> None:
    assert steps(AtOwner.OPEN, item, receipt=True) == {Action.REOPEN}


@pytest.mark.parametrize("notice", Here)
def test_an_owner_that_waits_for_what_we_gave_up_is_told_once_at_a_time(notice: Here) -> None:
    under_way = notice in (Here.OPEN, Here.HELD)
    found = Situation(AtOwner.OPEN, Here.GIVEN_UP, notice=notice)
    assert decide(found) is (Action.NOTHING if under_way else Action.TELL)


@pytest.mark.parametrize("owner", [AtOwner.STORED, AtOwner.CANCELLED])
def test_what_has_ended_at_its_owner_is_closed(owner: AtOwner) -> None:
    assert steps(owner, Here.OPEN, receipt=False) == {Action.CLOSE}


def test_what_was_interrupted_after_its_owner_was_told_is_left_to_its_stage() -> None:
    assert steps(AtOwner.STORED, Here.OPEN, receipt=True) == {Action.NOTHING}
    assert steps(AtOwner.CANCELLED, Here.OPEN, receipt=True) == {Action.CLOSE}


def test_what_nobody_but_a_person_can_settle_is_reported() -> None:
    assert steps(AtOwner.STORED, Here.GIVEN_UP, receipt=False) == {Action.REPORT_UNPROVEN}
    assert steps(AtOwner.STORED, Here.NONE, receipt=False) == {Action.REPORT_UNPROVEN}
    assert steps(AtOwner.OPEN, Here.SUCCEEDED, receipt=False) == {Action.REPORT_UNPROVEN}
    assert steps(AtOwner.CANCELLED, Here.SUCCEEDED) == {Action.REPORT_UNCOUNTED}


def test_absence_ends_nothing() -> None:
    done = {decide(one) for one in EVERYTHING if one.owner is AtOwner.UNKNOWN}
    assert done == {Action.NOTHING, Action.REPORT_UNKNOWN}


@pytest.mark.parametrize(
    ("status", "lease", "expected"),
    [
        (None, None, Here.NONE),
        (Status.PENDING, None, Here.OPEN),
        (Status.RUNNING, NOW + timedelta(seconds=1), Here.HELD),
        (Status.RUNNING, NOW - timedelta(seconds=1), Here.OPEN),
        (Status.SUCCESS, None, Here.SUCCEEDED),
        (Status.FAILED, None, Here.GIVEN_UP),
        (Status.CANCELLED, None, Here.GIVEN_UP),
    ],
)
def test_an_item_whose_lease_has_run_out_is_held_by_nobody(
    status: Status | None, lease: datetime | None, expected: Here
) -> None:
    assert Here.of(status, lease, NOW) is expected


def test_cancelled_outweighs_stored_in_a_record_that_says_both() -> None:
    assert AtOwner.of(a_transfer(stored=True, cancelled=True)) is AtOwner.CANCELLED
    assert AtOwner.of(None) is AtOwner.UNKNOWN


class TestRestores:
    """The same for what is asked back from us."""

    def test_what_a_live_worker_holds_is_never_touched(self) -> None:
        assert {decide_restore(owner, Here.HELD, notice) for owner in AtOwner for notice in Here} == {
            Action.NOTHING
        }

    @pytest.mark.parametrize("notice", Here)
    def test_an_open_request_is_taken_up_unless_it_was_declined(self, notice: Here) -> None:
        action = {Here.NONE: Action.MAKE, Here.OPEN: Action.NOTHING, Here.HELD: Action.NOTHING}.get(
            notice, Action.TELL
        )
        assert decide_restore(AtOwner.OPEN, Here.NONE, notice) is action

    @pytest.mark.parametrize("notice", Here)
    def test_a_requester_that_waits_for_what_we_gave_up_is_told_once_at_a_time(self, notice: Here) -> None:
        step = Action.NOTHING if notice in (Here.OPEN, Here.HELD) else Action.TELL
        assert decide_restore(AtOwner.OPEN, Here.GIVEN_UP, notice) is step

    @pytest.mark.parametrize("owner", [AtOwner.STORED, AtOwner.CANCELLED])
    def test_what_has_ended_at_its_requester_is_closed(self, owner: AtOwner) -> None:
        assert {decide_restore(owner, Here.OPEN, notice) for notice in Here} == {Action.CLOSE}
        for item in (Here.NONE, Here.SUCCEEDED, Here.GIVEN_UP):
            assert decide_restore(owner, item, Here.NONE) is Action.NOTHING

    def test_nothing_is_delivered_twice_because_a_requester_has_forgotten(self) -> None:
        assert {decide_restore(AtOwner.OPEN, Here.SUCCEEDED, notice) for notice in Here} == {
            Action.REPORT_RESTORE_FORGOTTEN
        }

    def test_absence_ends_nothing(self) -> None:
        for item in (Here.OPEN, Here.NONE):
            assert decide_restore(AtOwner.UNKNOWN, item, Here.NONE) is Action.REPORT_RESTORE_UNKNOWN
        for item in (Here.SUCCEEDED, Here.GIVEN_UP):
            assert decide_restore(AtOwner.UNKNOWN, item, Here.NONE) is Action.NOTHING
