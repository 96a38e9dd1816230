"""Who may move a restore transfer where: a table of single steps, then every step there is, then histories."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.registry.records import RestoreRecord
from dpn.registry.rules import Accepted, Caller, Decision, Refused, restores
from tests.fixtures.archives import a_restore
from tests.fixtures.records import uuid

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
OWNER = Caller("north", us="north")
HOLDER = Caller("south", us="north")
STRANGER = Caller("west", us="north")
NODES = {"north", "south", "west"}
LINK = "dpn.north@south.example.org:outbound/bag.tar"

REQUESTED = a_restore()
ACCEPTED = a_restore(accepted=True)
STAGED = a_restore(accepted=True, link=LINK)
FINISHED = a_restore(accepted=True, link=LINK, finished=True)
CANCELLED = a_restore(cancelled=True, cancel_reason="reject", cancel_reason_detail="no copy")
ALL_STATES = [REQUESTED, ACCEPTED, STAGED, FINISHED, CANCELLED]


def update(
    current: RestoreRecord, changes: dict[str, Any], caller: Caller = HOLDER, now: datetime = NOW
) -> Decision[RestoreRecord]:
    return restores.update(current, current.change(**changes), caller=caller, now=now)


def accepted(decision: Decision[RestoreRecord]) -> RestoreRecord:
    assert isinstance(decision, Accepted), decision
    return decision.record


def refused(decision: Decision[RestoreRecord]) -> Refused:
    assert isinstance(decision, Refused), decision
    return decision


def test_the_holder_accepts_and_stages_and_the_owner_finishes() -> None:
    once = accepted(update(REQUESTED, {"accepted": True}))
    assert once == ACCEPTED.change(updated_at=NOW)
    staged = accepted(update(once, {"link": LINK}))
    assert accepted(update(staged, {"finished": True}, OWNER)) == FINISHED.change(updated_at=NOW)


def test_a_link_is_given_once_and_only_for_what_was_accepted() -> None:
    assert refused(update(REQUESTED, {"link": LINK})).messages == ("Link must not precede accepted.",)
    assert refused(update(STAGED, {"link": "elsewhere"})).messages == (
        "Link is marked read-only but was changed.",
    )
    assert refused(update(STAGED, {"link": None})).status == 400
    assert refused(update(FINISHED, {"link": "elsewhere"}, OWNER)).status == 400


def test_only_the_owner_says_that_it_has_the_bag_and_only_after_there_was_a_link() -> None:
    assert refused(update(STAGED, {"finished": True})).messages == ("Finished is set by north only.",)
    assert refused(update(ACCEPTED, {"finished": True}, OWNER)).messages == (
        "Finished must not precede the link.",
    )


@pytest.mark.parametrize("current", [REQUESTED, ACCEPTED, STAGED])
@pytest.mark.parametrize("caller", [OWNER, HOLDER])
def test_either_side_may_cancel_until_it_is_finished(current: RestoreRecord, caller: Caller) -> None:
    after = accepted(update(current, {"cancelled": True, "cancel_reason": "reject"}, caller))
    assert (after.cancelled, after.cancel_reason, after.updated_at) == (True, "reject", NOW)


def test_a_finished_transfer_cannot_be_cancelled() -> None:
    assert refused(update(FINISHED, {"cancelled": True})).messages == ("A finished transfer cannot be cancelled.",)


def test_cancelling_twice_succeeds_and_keeps_the_first_reason() -> None:
    assert update(CANCELLED, {"cancel_reason": "other"}) == Accepted(CANCELLED, changed=False)


@pytest.mark.parametrize(
    ("reason", "detail", "expected"),
    [
        ("REJECT", "why", ("reject", "why")),
        (None, None, ("other", None)),
        ("bag_invalid", None, ("other", "bag_invalid")),
        ("disk full", "sda", ("other", "disk full: sda")),
        ("x" * 300, None, ("other", "x" * 254 + "…")),
    ],
)
def test_reasons_are_of_two_kinds_and_all_else_is_detail(
    reason: str | None, detail: str | None, expected: tuple[str, str | None]
) -> None:
    changes = {"cancelled": True, "cancel_reason": reason, "cancel_reason_detail": detail}
    after = accepted(update(ACCEPTED, changes))
    assert (after.cancel_reason, after.cancel_reason_detail) == expected


def test_a_reason_without_cancelling_is_refused() -> None:
    assert "Cancel reason" in refused(update(REQUESTED, {"cancel_reason": "other"})).messages[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("restore_id", uuid(9)), ("from_node", "west"), ("to_node", "west"), ("bag", uuid(9)), ("protocol", "https")],
)
def test_what_a_transfer_is_about_does_not_change(field: str, value: str) -> None:
    assert "read-only" in refused(update(REQUESTED, {field: value}, OWNER)).messages[0]


def test_nobody_else_writes_it_nor_a_copy_of_it() -> None:
    assert refused(update(REQUESTED, {"accepted": True}, STRANGER)).status == 403
    as_holder = Caller("west", us="south")
    assert refused(update(REQUESTED, {"accepted": True}, as_holder)).status == 403
    assert "tell north" in refused(update(REQUESTED, {"accepted": True}, Caller("south", us="west"))).messages[0]


def test_the_holder_may_note_its_own_steps_in_its_copy() -> None:
    assert accepted(update(REQUESTED, {"accepted": True, "link": LINK}, Caller("south", us="south"))).link == LINK


def every_proposal(current: RestoreRecord) -> Iterator[RestoreRecord]:
    flags = (False, True)
    for link, taken, finished, cancelled in product({None, LINK, "elsewhere"}, flags, flags, flags):
        yield current.change(
            link=link,
            accepted=taken,
            finished=finished,
            cancelled=cancelled,
            cancel_reason="reject" if cancelled else None,
            cancel_reason_detail=None,
        )


@pytest.mark.parametrize("current", ALL_STATES, ids=["requested", "accepted", "staged", "finished", "cancelled"])
@pytest.mark.parametrize("caller", [OWNER, HOLDER], ids=["owner", "holder"])
def test_no_step_of_all_there_are_breaks_a_promise(current: RestoreRecord, caller: Caller) -> None:
    for proposed in every_proposal(current):
        decision = restores.update(current, proposed, caller=caller, now=NOW)
        if isinstance(decision, Refused):
            assert decision.status == 400
            assert decision.messages
            continue
        check_step(current, decision.record, caller)
        assert decision.changed == (decision.record != current)


def check_step(before: RestoreRecord, after: RestoreRecord, caller: Caller) -> None:
    """What holds of every accepted step."""
    assert all(getattr(after, name) == getattr(before, name) for name in restores.COURSE.identity)
    assert all(getattr(after, name) >= getattr(before, name) for name in restores.COURSE.flags), "a flag went back"
    assert before.link in (None, after.link), "the link changed"
    assert (after.updated_at == before.updated_at) == (after == before)
    if before.is_final:
        assert after == before, "a final record changed"
    assert not (after.finished and after.cancelled)
    assert after.link is None or after.accepted, "staged without having been accepted"
    assert not after.finished or after.link is not None, "finished without a link"
    if after.finished and not before.finished:
        assert caller.is_local, "another said that we have the bag"


PROPOSALS = st.fixed_dictionaries(
    {},
    optional={
        "accepted": st.booleans(),
        "link": st.sampled_from([None, LINK, "elsewhere"]),
        "finished": st.booleans(),
        "cancelled": st.booleans(),
        "cancel_reason": st.sampled_from([None, "reject", "fixity_reject", "tired"]),
        "to_node": st.sampled_from(["north", "west"]),
    },
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([OWNER, HOLDER, STRANGER]), PROPOSALS)))
def test_no_history_ever_takes_anything_back(history: list[tuple[Caller, dict[str, Any]]]) -> None:
    record = REQUESTED
    for second, (caller, changes) in enumerate(history, 1):
        decision = update(record, changes, caller, now=NOW + timedelta(seconds=second))
        if isinstance(decision, Accepted):
            check_step(record, decision.record, caller)
            record = decision.record


def create(record: RestoreRecord, caller: Caller = OWNER, *, bag_known: bool = True) -> Decision[RestoreRecord]:
    return restores.create(record, caller=caller, bag_known=bag_known, known_nodes=NODES)


def test_the_node_itself_asks_for_a_bag() -> None:
    assert create(REQUESTED) == Accepted(REQUESTED)
    assert refused(create(REQUESTED, HOLDER)).status == 403


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (a_restore(from_node="north"), "to_node: a node does not restore from itself"),
        (a_restore(from_node="mars"), "from_node: no such node: mars"),
        (a_restore(protocol="https"), "protocol: https is not supported"),
        (a_restore(accepted=True), "accepted: must be unset in a new transfer"),
        (a_restore(link=LINK), "link: must be unset in a new transfer"),
        (a_restore(restore_id="00000000-0000-1000-a000-000000000001"), "restore_id: not a version 4 UUID"),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_with_its_reason(record: RestoreRecord, problem: str) -> None:
    assert refused(create(record)).messages == (problem,)


def test_a_bag_that_is_not_known_cannot_be_restored() -> None:
    assert refused(create(REQUESTED, bag_known=False)).messages == (f"bag: no such bag: {uuid(1)}",)


def test_a_peers_transfer_is_recorded_as_far_as_it_has_come() -> None:
    assert create(FINISHED, Caller("south", us="south")) == Accepted(FINISHED)
