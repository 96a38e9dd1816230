"""Who may move a transfer where: a table of single steps, then every step there is, then histories."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.registry.records import ReplicationRecord
from dpn.registry.rules import Accepted, Caller, CancelReason, Decision, Refused, transfers
from tests.fixtures.records import DIGEST, LONG_AGO, OTHER_DIGEST, a_bag, a_transfer, uuid

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
OWNER = Caller("north", us="north")
RECEIVER = Caller("south", us="north")
STRANGER = Caller("west", us="north")

REQUESTED = a_transfer()
RECEIVED = a_transfer(fixity_value=DIGEST)
CONFIRMED = a_transfer(fixity_value=DIGEST, store_requested=True)
STORED = a_transfer(fixity_value=DIGEST, store_requested=True, stored=True)
CANCELLED = a_transfer(cancelled=True, cancel_reason="reject", cancel_reason_detail="no agreement")
REJECTED = a_transfer(fixity_value=OTHER_DIGEST, cancelled=True, cancel_reason="fixity_reject")

ALL_STATES = [REQUESTED, RECEIVED, CONFIRMED, STORED, CANCELLED, REJECTED]


def update(
    current: ReplicationRecord,
    changes: dict[str, Any],
    caller: Caller = RECEIVER,
    digest: str | None = DIGEST,
    now: datetime = NOW,
) -> Decision[ReplicationRecord]:
    return transfers.update(current, current.change(**changes), caller=caller, expected_digest=digest, now=now)


def accepted(decision: Decision[ReplicationRecord]) -> ReplicationRecord:
    assert isinstance(decision, Accepted), decision
    return decision.record


def refused(decision: Decision[ReplicationRecord]) -> Refused:
    assert isinstance(decision, Refused), decision
    return decision


def test_the_right_fixity_is_confirmed_in_the_same_step() -> None:
    after = accepted(update(REQUESTED, {"fixity_value": DIGEST.upper()}))
    assert after == CONFIRMED.change(updated_at=NOW)


def test_the_wrong_fixity_cancels_and_says_what_was_expected_and_what_came() -> None:
    after = accepted(update(REQUESTED, {"fixity_value": OTHER_DIGEST}))
    assert (after.cancelled, after.store_requested) == (True, False)
    assert after.cancel_reason == CancelReason.FIXITY_REJECT
    assert DIGEST in (after.cancel_reason_detail or "")
    assert OTHER_DIGEST in (after.cancel_reason_detail or "")
    assert len(after.cancel_reason_detail or "") <= 255


def test_a_fixity_that_is_no_digest_at_all_is_a_wrong_one() -> None:
    after = accepted(update(REQUESTED, {"fixity_value": "x" * 255}))
    assert after.cancelled
    assert len(after.cancel_reason_detail or "") == 255


def test_without_a_digest_the_fixity_waits_and_is_judged_once_there_is_one() -> None:
    waiting = accepted(update(REQUESTED, {"fixity_value": DIGEST}, digest=None))
    assert not waiting.store_requested
    assert not waiting.cancelled
    assert accepted(update(waiting, {}, digest=DIGEST)).store_requested
    assert transfers.judge(waiting, OTHER_DIGEST).cancelled


@pytest.mark.parametrize("value", [DIGEST, OTHER_DIGEST])
def test_a_fixity_sent_twice_is_answered_twice_with_the_one_verdict(value: str) -> None:
    sent = REQUESTED.change(fixity_value=value)
    verdict = accepted(update(REQUESTED, {"fixity_value": value}))
    again = transfers.update(verdict, sent, caller=RECEIVER, expected_digest=DIGEST, now=NOW + timedelta(hours=1))
    assert again == Accepted(verdict, changed=False)


def test_no_flag_is_taken_back() -> None:
    for current, caller, changes in [
        (CONFIRMED, OWNER, {"store_requested": False}),
        (CONFIRMED, RECEIVER, {"store_requested": False, "fixity_value": None}),
        (CONFIRMED, RECEIVER, {"store_requested": False, "fixity_value": OTHER_DIGEST}),
        (CONFIRMED, RECEIVER, {"fixity_value": OTHER_DIGEST}),
        (STORED, RECEIVER, {"stored": False}),
        (STORED, RECEIVER, {"stored": False, "store_requested": False}),
        (CANCELLED, RECEIVER, {"cancelled": False}),
        (CANCELLED, OWNER, {"cancelled": False, "cancel_reason": None, "cancel_reason_detail": None}),
    ]:
        messages = refused(update(current, changes, caller)).messages
        assert any("read-only" in message for message in messages), (current, changes)


def test_a_copy_is_stored_only_after_it_was_asked_for() -> None:
    assert accepted(update(CONFIRMED, {"stored": True})).stored
    for early in (REQUESTED, RECEIVED):
        assert "precede" in refused(update(early, {"stored": True}, digest=None)).messages[0]


def test_stored_together_with_the_fixity_is_refused_and_nothing_changes() -> None:
    assert refused(update(REQUESTED, {"fixity_value": DIGEST, "stored": True})).status == 400


@pytest.mark.parametrize("current", [REQUESTED, RECEIVED, CONFIRMED])
@pytest.mark.parametrize("caller", [OWNER, RECEIVER])
def test_either_side_may_cancel_until_it_is_stored(current: ReplicationRecord, caller: Caller) -> None:
    after = accepted(update(current, {"cancelled": True, "cancel_reason": "bag_invalid"}, caller))
    assert (after.cancelled, after.cancel_reason, after.updated_at) == (True, "bag_invalid", NOW)


def test_a_stored_transfer_cannot_be_cancelled() -> None:
    assert refused(update(STORED, {"cancelled": True})).messages == ("A stored transfer cannot be cancelled.",)


def test_cancelling_twice_succeeds_and_keeps_the_first_reason() -> None:
    again = update(CANCELLED, {"cancel_reason": "other", "cancel_reason_detail": "changed my mind"})
    assert again == Accepted(CANCELLED, changed=False)


def test_cancelling_comes_first_and_alone() -> None:
    after = accepted(update(REQUESTED, {"cancelled": True, "fixity_value": DIGEST, "stored": True}))
    assert (after.cancelled, after.fixity_value, after.stored) == (True, None, False)


def test_the_receiver_does_not_give_itself_the_verdict() -> None:
    assert refused(update(RECEIVED, {"store_requested": True}, digest=None)).messages == (
        "Store requested is set by north only.",
    )


def test_the_owner_does_not_ask_to_store_what_was_never_proven() -> None:
    for current, digest in ((REQUESTED, DIGEST), (RECEIVED, None)):
        assert "fixity" in refused(update(current, {"store_requested": True}, OWNER, digest)).messages[0]
    assert accepted(update(RECEIVED, {"store_requested": True}, OWNER)).store_requested


def test_a_reason_without_cancelling_is_refused() -> None:
    for field in ("cancel_reason", "cancel_reason_detail"):
        assert "Cancel reason" in refused(update(REQUESTED, {field: "other"})).messages[0]


@pytest.mark.parametrize("caller", [OWNER, RECEIVER])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("replication_id", uuid(9), "Replication id is marked read-only but was changed."),
        ("from_node", "west", "From node is marked read-only but was changed."),
        ("to_node", "west", "To node is marked read-only but was changed."),
        ("bag", uuid(9), "Bag is marked read-only but was changed."),
        ("fixity_algorithm", "md5", "Fixity algorithm is marked read-only but was changed."),
        ("fixity_nonce", "7", "Fixity nonce is marked read-only but was changed."),
        ("protocol", "https", "Protocol is marked read-only but was changed."),
        ("link", "elsewhere", "Link is marked read-only but was changed."),
    ],
)
def test_what_the_owner_fixed_stays_whatever_else_is_sent(
    caller: Caller, field: str, value: str, message: str
) -> None:
    for more in ({}, {"cancelled": True}, {"fixity_value": DIGEST}):
        assert refused(update(REQUESTED, {field: value, **more}, caller)).messages == (message,)


def test_times_that_are_sent_do_not_count() -> None:
    same = update(CONFIRMED, {"created_at": NOW, "updated_at": NOW})
    assert same == Accepted(CONFIRMED, changed=False)


def test_the_time_of_change_never_steps_back_with_the_clock() -> None:
    changed_later = REQUESTED.change(updated_at=NOW + timedelta(hours=1))
    after = accepted(update(changed_later, {"fixity_value": DIGEST}))
    assert after.updated_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize("current", ALL_STATES)
def test_others_may_do_nothing(current: ReplicationRecord) -> None:
    for changes in ({}, {"cancelled": True}, {"link": "x"}):
        assert refused(update(current, changes, STRANGER)).status == 403


def test_a_copy_of_anothers_transfer_is_not_the_place_to_report_to() -> None:
    on_wests_server = Caller("south", us="west")
    assert "tell north" in refused(update(REQUESTED, {"fixity_value": DIGEST}, on_wests_server)).messages[0]


def test_our_copy_of_anothers_transfer_follows_what_its_owner_says() -> None:
    ourselves = Caller("south", us="south")
    after = accepted(update(REQUESTED, {"fixity_value": DIGEST, "store_requested": True}, ourselves, digest=None))
    assert (after.store_requested, after.updated_at) == (True, NOW)
    assert refused(update(STORED, {"stored": False}, ourselves)).status == 400


@pytest.mark.parametrize(
    ("reason", "detail", "expected"),
    [
        ("reject", "why", ("reject", "why")),
        ("BAG_INVALID", None, ("bag_invalid", None)),
        (None, None, ("other", None)),
        (None, "why", ("other", "why")),
        ("rsync failed", None, ("other", "rsync failed")),
        ("rsync failed", "code 12", ("other", "rsync failed: code 12")),
        ("x" * 300, None, ("other", "x" * 254 + "…")),
        ("other", "y" * 255, ("other", "y" * 255)),
    ],
)
def test_reasons_are_of_four_kinds_and_all_else_is_detail(
    reason: str | None, detail: str | None, expected: tuple[str, str | None]
) -> None:
    after = accepted(
        update(REQUESTED, {"cancelled": True, "cancel_reason": reason, "cancel_reason_detail": detail})
    )
    assert (after.cancel_reason, after.cancel_reason_detail) == expected


def every_proposal(current: ReplicationRecord) -> Iterator[ReplicationRecord]:
    fixities = {None, DIGEST, OTHER_DIGEST, current.fixity_value}
    for fixity, wanted, stored, cancelled, reason in product(
        fixities, (False, True), (False, True), (False, True), (None, "reject")
    ):
        yield current.change(
            fixity_value=fixity,
            store_requested=wanted,
            stored=stored,
            cancelled=cancelled,
            cancel_reason=reason,
            cancel_reason_detail=None,
        )


@pytest.mark.parametrize(
    "current", ALL_STATES, ids=["requested", "received", "confirmed", "stored", "cancelled", "rejected"]
)
@pytest.mark.parametrize(
    "caller", [OWNER, RECEIVER, Caller("south", us="south")], ids=["owner", "receiver", "mirror"]
)
@pytest.mark.parametrize("digest", [DIGEST, OTHER_DIGEST, None], ids=["digest", "other digest", "no digest"])
def test_no_step_of_all_there_are_breaks_a_promise(
    current: ReplicationRecord, caller: Caller, digest: str | None
) -> None:
    for proposed in every_proposal(current):
        decision = transfers.update(current, proposed, caller=caller, expected_digest=digest, now=NOW)
        if isinstance(decision, Refused):
            assert decision.status == 400
            assert decision.messages
            continue
        check_step(current, decision.record, digest, mirrors=caller.us != "north")
        assert decision.changed == (decision.record != current)


def check_step(
    before: ReplicationRecord, after: ReplicationRecord, digest: str | None, *, mirrors: bool = False
) -> None:
    """What holds of every accepted step."""
    assert all(
        getattr(after, name) == getattr(before, name) for name in (*transfers.COURSE.identity, "created_at")
    )
    assert all(getattr(after, name) >= getattr(before, name) for name in transfers.COURSE.flags), (
        "a flag went back"
    )
    assert before.fixity_value in (None, after.fixity_value), "the fixity changed"
    assert (after.updated_at == before.updated_at) == (after == before)
    if before.is_final:
        assert after == before, "a final record changed"
    if mirrors:
        return
    assert not (after.stored and after.cancelled)
    if after.stored and not before.stored:
        assert before.store_requested, "stored without having been asked for"
    if after.store_requested and not before.store_requested:
        assert after.fixity_value == digest, "asked for without proof"
    if after.cancelled:
        assert after.cancel_reason in set(CancelReason)


PROPOSALS = st.fixed_dictionaries(
    {},
    optional={
        "fixity_value": st.sampled_from([None, DIGEST, OTHER_DIGEST, "junk"]),
        "store_requested": st.booleans(),
        "stored": st.booleans(),
        "cancelled": st.booleans(),
        "cancel_reason": st.none() | st.text(max_size=300).filter(lambda text: "\x00" not in text),
        "link": st.sampled_from([REQUESTED.link, "elsewhere"]),
    },
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([OWNER, RECEIVER, STRANGER]), PROPOSALS, st.sampled_from([DIGEST, None])))
)
def test_no_history_ever_takes_anything_back(
    history: list[tuple[Caller, dict[str, Any], str | None]],
) -> None:
    record = REQUESTED
    for second, (caller, changes, digest) in enumerate(history):
        decision = update(record, changes, caller, digest, now=NOW + timedelta(seconds=second))
        if isinstance(decision, Accepted):
            check_step(record, decision.record, digest)
            record = decision.record
        again = update(record, changes, caller, digest)
        if isinstance(again, Accepted) and isinstance(decision, Accepted):
            assert again == Accepted(record, changed=False), "the same step done twice is not the same step"


LOCAL = Caller("north", us="north")
NODES = {"north", "south", "west"}


def create(record: ReplicationRecord, caller: Caller = LOCAL, **more: Any) -> Decision[ReplicationRecord]:
    return transfers.create(record, caller=caller, **({"bag": a_bag(), "known_nodes": NODES} | more))


def test_the_node_itself_creates_transfers_of_its_bags() -> None:
    assert create(REQUESTED) == Accepted(REQUESTED)


@pytest.mark.parametrize(
    ("record", "more", "problem"),
    [
        (
            a_transfer(to_node="north"),
            {"bag": a_bag(replicating_nodes=())},
            "to_node: a node does not replicate to itself",
        ),
        (a_transfer(), {"bag": a_bag(replicating_nodes=("south",))}, "to_node: south holds a copy already"),
        (a_transfer(), {"bag": None}, f"bag: no such bag: {uuid(1)}"),
        (a_transfer(to_node="mars"), {}, "to_node: no such node: mars"),
        (a_transfer(from_node="mars"), {}, "from_node: no such node: mars"),
        (a_transfer(protocol="https"), {}, "protocol: https is not supported"),
        (a_transfer(fixity_algorithm="md5"), {}, "fixity_algorithm: md5 is not supported"),
        (a_transfer(fixity_value=DIGEST), {}, "fixity_value: must be unset in a new transfer"),
        (a_transfer(store_requested=True), {}, "store_requested: must be unset in a new transfer"),
        (a_transfer(stored=True), {}, "stored: must be unset in a new transfer"),
        (a_transfer(cancelled=True), {}, "cancelled: must be unset in a new transfer"),
        (
            a_transfer(replication_id="00000000-0000-1000-a000-000000000001"),
            {},
            "replication_id: not a version 4 UUID",
        ),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_with_its_reason(
    record: ReplicationRecord, more: dict[str, Any], problem: str
) -> None:
    assert create(record, **more) == Refused(400, (problem,))  # type: ignore[arg-type]


def test_only_the_node_itself_creates_transfers() -> None:
    assert refused(create(REQUESTED, RECEIVER)).status == 403


def test_a_peers_transfer_is_recorded_as_far_as_it_has_come() -> None:
    as_south = Caller("south", us="south")
    assert create(STORED, as_south, bag=a_bag(replicating_nodes=("north", "south"))) == Accepted(STORED)


def test_a_late_read_of_the_owners_copy_is_ignored_and_a_contradiction_is_not() -> None:
    ours = CONFIRMED.change(updated_at=NOW)
    assert transfers.merge(ours, REQUESTED) == Accepted(ours, changed=False)
    assert refused(transfers.merge(ours, REQUESTED.change(updated_at=NOW))).status == 400
    assert refused(transfers.merge(ours, CONFIRMED.change(link="x"))).status == 400
    assert transfers.merge(REQUESTED, ours) == Accepted(ours)
    assert transfers.merge(ours, ours) == Accepted(ours, changed=False)
    assert LONG_AGO < NOW
