"""What becomes of an item after each way a stage can end, committed by the runner (dpn.md section 12)."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError, ProgrammingError

from dpn import errors
from dpn.audit.trail import EventType
from dpn.cancellation import Cancellation
from dpn.errors import Interrupted, LeaseLost, ServiceUnavailable
from dpn.registry.rules.flags import CancelReason
from dpn.transfer.errors import SourceMissing
from dpn.work.outcomes import Done, Fail, Outcome, Retry, StartOver, Stopped, Wait
from models.work import Status
from tests.fixtures.scripted.bench import LEASE_SECONDS, POLICY, Behaviour, Bench
from workers.cancellations import TransferCancellation
from workers.runner import stage_runner
from workers.runner.stage_runner import ASK_AGAIN_SECONDS, ROOM_SECONDS

TOLD = TransferCancellation(CancelReason.BAG_INVALID, "data/a.txt is missing")


def raises(error: Exception) -> Behaviour:
    def run(_: Any) -> Outcome:
        raise error

    return run


def from_a_disk(error: errors.DpnError) -> errors.DpnError:
    error.__cause__ = OSError(errno.ESTALE, str(error))
    return error


def answers(outcome: Outcome) -> Behaviour:
    return lambda _: outcome


@pytest.mark.parametrize(
    ("error", "attempts", "delay", "attention"),
    [
        (ServiceUnavailable("peer:north", "refused", 77.0), 0, 77, False),
        (ServiceUnavailable("peer:north", "refused"), 0, POLICY.backoff_first_seconds, False),
        (errors.PeerUnavailable("peer:north", "HTTP 503", 1e12), 0, POLICY.backoff_max_seconds, False),
        (errors.StoreUnavailable("store:main", "slow down", float("nan")), 0, POLICY.backoff_first_seconds, False),
        (errors.StoreUnavailable("store:main", "slow down", -5.0), 0, POLICY.backoff_first_seconds, False),
        (errors.Misconfigured("no credentials"), 0, ASK_AGAIN_SECONDS, True),
        (errors.NoSpace("the volume is full"), 0, ROOM_SECONDS, False),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/outbound/x"), 0, ROOM_SECONDS, False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 0, ROOM_SECONDS, False),
        (OperationalError("SELECT 1", None, Exception("server closed the connection")), 0, 30, False),
        (errors.TransientError("rsync broke off"), 1, 30 * 0.75, False),
        (SourceMissing("the peer has no such module"), 1, 30 * 0.75, False),
        (errors.StoreMismatch("other bytes"), 0, ASK_AGAIN_SECONDS, True),
        (errors.StoreMissing("it is gone"), 0, ASK_AGAIN_SECONDS, True),
        (errors.StoreFailed("an answer that nobody knows"), 0, ASK_AGAIN_SECONDS, True),
        (OSError(errno.EIO, "Input/output error"), 0, ASK_AGAIN_SECONDS, True),
        (OSError(errno.EROFS, "Read-only file system", "/srv/staging/items"), 0, ASK_AGAIN_SECONDS, True),
        (from_a_disk(errors.TransientError("the file did not come whole")), 0, ASK_AGAIN_SECONDS, True),
        (from_a_disk(errors.NotABag("it cannot be read")), 0, ASK_AGAIN_SECONDS, True),
        (FileExistsError(errno.EEXIST, "File exists"), 1, 30 * 0.75, False),
        (ProgrammingError("SELECT nonsense", None, Exception("no such column")), 1, 30 * 0.75, False),
        (ZeroDivisionError("a bug"), 1, 30 * 0.75, False),
        (Interrupted("nobody asked us to stop"), 1, 30 * 0.75, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_stage_raises_becomes_a_wait_or_a_retry(
    bench: Bench, error: Exception, attempts: int, delay: float, attention: bool
) -> None:
    item = bench.make_item()
    after = bench.run(item, raises(error))
    assert (after.status, after.stage, after.attempts) == (Status.PENDING, "copy", attempts)
    assert bench.due_in(item) == pytest.approx(delay, abs=0.01)
    assert after.needs_attention is attention
    assert str(error).split("\n")[0] in after.note
    assert not (isinstance(error, errors.TransientError) and type(error).__name__ in after.note)
    assert after.lease_owner is None
    assert bench.intents() == bench.queues.waiting() == []
    assert after.manifest["summaries"]["copy"]["errors"] == [after.note]


@pytest.mark.parametrize(
    "error", [errors.PeerRefused("north", 400, "no"), errors.LinkRefused("x", "a hostile link")]
)
def test_a_permanent_error_fails_the_item_and_tells_its_owner(bench: Bench, error: errors.PermanentError) -> None:
    item = bench.make_item()
    after = bench.run(item, raises(error))
    assert (after.status, after.needs_attention) == (Status.FAILED, True)
    assert after.completed_at == bench.clock.now()
    (notice,) = bench.notices()
    assert (notice.identifier, notice.remote_node, notice.status) == (after.identifier, "north", Status.PENDING)
    assert (notice.manifest["cancel_reason"], notice.manifest["cancel_reason_detail"]) == ("other", str(error))
    assert bench.ended == [(item, "failed")]


def test_waiting_however_often_is_no_attempt_and_the_clock_of_attention_does_not_start_anew(bench: Bench) -> None:
    item = bench.make_item()
    for _ in range(10):
        after = bench.run(item, answers(Wait(7200, "north is down")))
        assert (after.attempts, after.status) == (0, Status.PENDING)
        bench.clock.advance(7200)
    assert not after.needs_attention
    for _ in range(3):
        after = bench.run(item, answers(Wait(7200, "north is down")))
        bench.clock.advance(7200)
    assert after.needs_attention, "it has waited for more than a day, whatever each wait was"
    assert bench.events(item) == [], "an item may wait for weeks: the log has that, not the audit trail"


def test_retries_back_off_and_are_given_up_when_the_attempts_are_used_up(bench: Bench) -> None:
    item = bench.make_item()
    delays = []
    for _ in range(POLICY.attempts - 1):
        bench.run(item, answers(Retry("rsync broke off")))
        delays.append(bench.due_in(item))
        bench.clock.advance(delays[-1])
    assert delays == [pytest.approx(22.5), pytest.approx(45)]
    after = bench.run(item, answers(Retry("rsync broke off")))
    assert (after.status, after.attempts) == (Status.FAILED, POLICY.attempts)
    assert [event.outcome for event in bench.events(item)] == ["retry", "retry", "retry", "pending"]
    assert len(bench.notices()) == 1
    assert after.manifest["summaries"]["copy"]["attempts"] == POLICY.attempts


def test_runs_that_die_use_up_no_attempt_and_wait_for_a_person_in_the_end(bench: Bench) -> None:
    item = bench.make_item()
    bench.run(item, answers(Retry("rsync broke off")))
    bench.clock.advance(600)
    for _ in range(POLICY.attempts - 1):
        bench.claim(item)  # and dies
        bench.clock.advance(LEASE_SECONDS + 1)
    after = bench.run(item, answers(Retry("rsync broke off")))
    assert (after.status, after.attempts, after.needs_attention) == (Status.PENDING, 2, False)
    bench.clock.advance(600)
    pauses = []
    for _ in range(3):
        for _ in range(POLICY.attempts):
            bench.claim(item)
            bench.clock.advance(LEASE_SECONDS + 1)
        after = bench.run(item, answers(Done("never run")))
        assert (after.status, after.stage, after.attempts) == (Status.PENDING, "copy", 2)
        assert after.needs_attention
        assert after.note.startswith("the worker died or was killed 3 times in a row")
        assert after.note.count("the last note") <= 1
        pauses.append(bench.due_in(item))
        bench.clock.advance(pauses[-1])
    assert ASK_AGAIN_SECONDS <= pauses[0] < pauses[1] < pauses[2]
    assert bench.notices() == []
    assert bench.run(item, answers(Done("copied"))).stage == "validate"


def test_an_outage_between_two_failures_does_not_forgive_the_first(bench: Bench) -> None:
    item = bench.make_item()
    for outcome in (Retry("a"), Wait(1, "down"), Wait(1, "down"), Retry("b"), Wait(1, "down")):
        after = bench.run(item, answers(outcome))
        bench.clock.advance(600)
    assert after.attempts == 2


def test_done_moves_the_item_on_with_event_and_message_and_forgets_old_errors(bench: Bench) -> None:
    item = bench.make_item()
    bench.run(item, answers(Retry("first")))
    bench.clock.advance(600)
    after = bench.run(item, answers(Done("copied")))
    assert (after.stage, after.status, after.attempts, after.waiting_since) == (
        "validate",
        Status.PENDING,
        0,
        None,
    )
    assert bench.queues.waiting() == [("dpn_validation_topic", item)]
    assert bench.intents() == []
    assert after.manifest["summaries"]["copy"]["errors"] == []
    assert [(event.event_type, event.outcome) for event in bench.events(item)][-1] == ("stage ended", "done")


def test_a_message_that_cannot_be_published_stays_intended_and_the_stage_stays_done(bench: Bench) -> None:
    item = bench.make_item()
    bench.queues.down = True
    assert bench.run(item, answers(Done("copied"))).stage == "validate"
    assert bench.intents() == [("dpn_validation_topic", item)]


def test_a_notice_is_owed_once_however_often_an_item_fails(bench: Bench) -> None:
    item = bench.make_item()
    bench.run(item, answers(Fail("the bag is invalid", TOLD)))
    with bench.sessions.begin() as session:
        row = session.get_one(type(bench.item(item)), item)
        row.status, row.attempts = Status.PENDING, 0
    bench.run(item, answers(Fail("the bag is invalid", TOLD)))
    assert len(bench.notices()) == 1


def test_a_save_whose_answer_was_lost_leaves_its_events_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_runner, "DATABASE_RETRY_SECONDS", 0.01)
    item = bench.make_item()
    lost: list[str] = []

    def lose(_: Any) -> None:
        if not lost:
            lost.append("answer")
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    def run(job: Any) -> Outcome:
        for number in range(2):
            job.add_event(EventType.TRANSFER, "a bag", "success", number=number)
        event.listen(bench.sessions, "after_commit", lose)
        job.save("got that far")
        event.remove(bench.sessions, "after_commit", lose)
        return Done("done")

    assert bench.run(item, run).stage == "validate"
    assert lost
    transfers = [one.detail for one in bench.events(item) if one.event_type == EventType.TRANSFER]
    assert transfers == [{"number": 0}, {"number": 1}]


def test_work_that_is_no_longer_wanted_ends_cancelled_and_nobody_is_told(bench: Bench) -> None:
    item = bench.make_item()
    after = bench.run(item, answers(Stopped("north cancelled the transfer")))
    assert (after.status, after.needs_attention, bench.notices()) == (Status.CANCELLED, False, [])
    assert bench.ended == [(item, "cancelled")]


def test_starting_over_leaves_the_volume_and_is_given_up_in_the_end(bench: Bench) -> None:
    item = bench.make_item(staging_volume="a")
    for round_ in range(POLICY.attempts):
        bench.run(item, answers(Done("copied")))
        after = bench.run(item, answers(StartOver("copy", "the staged bag is gone")))
        assert (after.stage, after.status, after.staging_volume) == ("copy", Status.PENDING, None)
        assert after.manifest["restarts"] == round_ + 1
        bench.clock.advance(600)
    bench.run(item, answers(Done("copied")))
    after = bench.run(item, answers(StartOver("copy", "the staged bag is gone")))
    assert after.status is Status.FAILED or after.status == "failed"
    assert "started over 3 times" in after.note


def test_a_stopping_worker_puts_its_item_back_untried(bench: Bench) -> None:
    item = bench.make_item()
    stopping = Cancellation()
    stopping.cancel(Interrupted("the worker was told twice to stop"))
    after = bench.run(item, lambda job: job.cancellation.check() or Done("never"), cancellation=stopping)
    assert (after.status, after.attempts, bench.due_in(item)) == (Status.PENDING, 0, 0)
    assert "told twice to stop" in after.note
    assert bench.queues.waiting() == [("dpn_copy_topic", item)]


def test_a_run_that_lost_its_lease_writes_nothing_however_it_ends(bench: Bench) -> None:
    item = bench.make_item()
    for late_behaviour in (
        answers(Done("late")),
        raises(ValueError("late")),
        raises(LeaseLost("late")),
        save_late,
    ):
        late = bench.claim(item)
        bench.clock.advance(61)
        held = bench.claim(item, "b")
        before = bench.item(item)
        after = bench.run(item, late_behaviour, claim=late)
        assert (after.status, after.lease_token, after.lease_owner) == (Status.RUNNING, held.token, "b")
        assert (after.note, after.manifest, after.updated_at) == (before.note, before.manifest, before.updated_at)
        bench.clock.advance(61)
    assert bench.events(item) == []
    assert bench.queues.waiting() == []


def save_late(job: Any) -> Outcome:
    job.manifest.fixity_sent = "late"
    job.save("late")
    return Done("late")
