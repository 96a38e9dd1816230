"""What follows from an outcome, as values: every way an item can go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpn.registry.rules.flags import CancelReason
from dpn.work import lifecycle
from dpn.work.lifecycle import Change, Policy, Position
from dpn.work.outcomes import Done, Fail, Outcome, Retry, StartOver, Stopped, Wait
from models.work import Status
from workers.cancellations import TransferCancellation
from workers.pipelines import PIPELINES

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
POLICY = Policy(attempts=4, backoff_first_seconds=30, backoff_max_seconds=600, attention_after_seconds=86_400)


def at(
    stage: str = "copy", attempts: int = 1, waiting_since: datetime | None = None, task: str = "replication"
) -> Position:
    return Position(task, stage, attempts, waiting_since)


def decide(position: Position, outcome: Outcome, jitter: float = 0.5) -> Change:
    return lifecycle.decide(position, outcome, pipelines=PIPELINES, policy=POLICY, now=NOW, jitter=jitter)


@pytest.mark.parametrize(("stage", "following"), [("copy", "validate"), ("validate", "store")])
def test_a_stage_that_is_done_hands_the_item_to_the_next_at_once(stage: str, following: str) -> None:
    change = decide(at(stage, attempts=3, waiting_since=NOW), Done("fine"))
    assert (change.stage, change.status, change.attempts) == (following, Status.PENDING, 0)
    assert change.dispatch
    assert change.delay_seconds == 0
    assert change.waiting_since is None
    assert not change.leaves_volume


def test_the_last_stage_ends_the_item_well() -> None:
    change = decide(at("store"), Done("stored"))
    assert (change.status, change.note, change.dispatch) == (Status.SUCCESS, "stored", False)
    assert change.leaves_volume


def test_waiting_is_not_an_attempt_however_often() -> None:
    position = at(attempts=1)
    for _ in range(100):
        change = decide(position, Wait(60, "peer:north is unavailable"))
        assert change.status is Status.PENDING
        assert change.delay_seconds == 60
        position = at(attempts=change.attempts + 1, waiting_since=change.waiting_since)
    assert position.attempts == 1


def test_an_item_that_waits_too_long_calls_for_attention_and_its_clock_does_not_restart() -> None:
    since = NOW - timedelta(days=2)
    for outcome in (Wait(60, "still down"), Retry("flaky")):
        change = decide(at(waiting_since=since), outcome)
        assert change.needs_attention
        assert change.waiting_since == since


def test_an_item_that_has_just_begun_to_wait_does_not_call_for_attention() -> None:
    assert not decide(at(), Wait(60, "down")).needs_attention


def test_a_retry_backs_off_and_keeps_its_attempts() -> None:
    change = decide(at(attempts=2), Retry("timed out"), jitter=0.999)
    assert change.status is Status.PENDING
    assert change.attempts == 2
    assert 30 < change.delay_seconds <= 60
    assert "timed out" in change.note
    assert "attempt 2 of 4" in change.note


def test_attempts_that_are_used_up_end_the_item_as_given_up() -> None:
    change = decide(at(attempts=4), Retry("rsync broke off"))
    assert change.status is Status.FAILED
    assert change.needs_attention
    assert change.given_up, "so that its pipeline knows that it owes an explanation"
    assert "rsync broke off" in change.note


def test_starting_over_counts_against_the_budget_so_that_it_cannot_go_on_for_ever() -> None:
    change = decide(at("store", attempts=1), StartOver("copy", "the staged bag is gone"))
    assert (change.stage, change.attempts, change.leaves_volume) == ("copy", 1, True)
    assert decide(at("store", attempts=4), StartOver("copy", "gone again")).status is Status.FAILED


def test_an_item_that_keeps_starting_over_is_given_up_even_if_each_stage_succeeds_in_between() -> None:
    position = Position("replication", "store", attempts=1, waiting_since=None, restarts=4)
    change = decide(position, StartOver("copy", "the staged bag is gone"))
    assert change.status is Status.FAILED
    assert "started over 4 times" in change.note


def test_starting_over_at_a_stage_that_reads_staged_bytes_keeps_them() -> None:
    assert not decide(at("store"), StartOver("validate", "never judged")).leaves_volume


def test_a_failure_says_why_and_what_the_owner_must_hear() -> None:
    told = TransferCancellation(CancelReason.BAG_INVALID, "data/a.txt is missing")
    change = decide(at("validate"), Fail("the bag is invalid", told))
    assert (change.status, change.note, change.follow_up) == (Status.FAILED, "the bag is invalid", told)
    assert change.needs_attention


def test_work_that_is_no_longer_wanted_ends_cancelled_without_alarm() -> None:
    change = decide(at("validate"), Stopped("north cancelled the transfer"))
    assert (change.status, change.needs_attention, change.follow_up) == (Status.CANCELLED, False, None)


def test_a_released_item_goes_on_at_once_and_has_lost_no_attempt() -> None:
    change = lifecycle.release(at(attempts=2), "the worker stops")
    assert (change.status, change.attempts, change.delay_seconds, change.dispatch) == (Status.PENDING, 1, 0, True)


def test_a_detail_for_the_owner_is_never_longer_than_its_server_takes() -> None:
    assert len(TransferCancellation(CancelReason.OTHER, "x" * 1000).detail) == 255


@given(attempts=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_back_off_stays_within_its_bounds(attempts: int, jitter: float) -> None:
    seconds = lifecycle.backoff_seconds(attempts, POLICY, jitter)
    assert POLICY.backoff_first_seconds / 2 <= seconds <= POLICY.backoff_max_seconds


OUTCOMES = st.one_of(
    st.builds(Done, st.text(max_size=20), st.booleans()),
    st.builds(Wait, st.floats(0, 1e6), st.text(max_size=20), st.booleans()),
    st.builds(Retry, st.text(max_size=20)),
    st.builds(Fail, st.text(max_size=20)),
    st.builds(Stopped, st.text(max_size=20)),
    st.builds(StartOver, st.sampled_from(["copy", "validate"]), st.text(max_size=20)),
)


@given(st.lists(OUTCOMES, max_size=60), st.floats(0, 1, exclude_max=True))
def test_any_history_leaves_an_item_that_is_final_or_due_again_with_a_reason(
    history: list[Outcome], jitter: float
) -> None:
    position, failures = at(attempts=1), 0
    for outcome in history:
        change = decide(position, outcome, jitter)
        assert change.attempts <= POLICY.attempts
        if change.status.is_final:
            assert not change.dispatch
            assert change.leaves_volume
            return
        assert change.status is Status.PENDING
        assert 0 <= change.delay_seconds <= 1e6
        failures = (
            failures + 1
            if isinstance(outcome, Retry | StartOver)
            else (0 if isinstance(outcome, Done) else failures)
        )
        assert failures < POLICY.attempts
        position = at(change.stage, change.attempts + 1, change.waiting_since)


def test_a_wait_that_is_usual_calls_for_attention_later_by_as_much() -> None:
    patient = Wait(60, "thawing", patience_seconds=3 * 86_400)
    assert not decide(at(waiting_since=NOW - timedelta(days=3.9)), patient).needs_attention
    assert decide(at(waiting_since=NOW - timedelta(days=4)), patient).needs_attention
    assert decide(at(waiting_since=NOW - timedelta(days=1)), Wait(60, "as always")).needs_attention


def test_what_nobody_came_for_ends_without_attention_and_its_owner_is_told() -> None:
    news = TransferCancellation(CancelReason.OTHER, "nobody came")
    change = decide(at("deliver", task="restore"), Stopped("nobody came", news))
    assert (change.status, change.needs_attention, change.follow_up) == (Status.CANCELLED, False, news)
    assert change.leaves_volume
    assert decide(at(), Stopped("cancelled there")).follow_up is None
