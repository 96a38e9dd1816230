"""Claims, leases and fencing on a real database: at most one holder, and a late one changes nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dpn.clock import ManualClock, SystemClock
from dpn.database import Sessions
from dpn.errors import LeaseLost
from dpn.registry.rules.flags import CancelReason
from dpn.work import leases, lifecycle, transitions
from dpn.work.leases import Claim
from dpn.work.lifecycle import Policy
from dpn.work.outcomes import Done, Fail, Outcome
from models.work import AuditEvent, DispatchIntent, Status, Task, WorkItem
from workers.cancellations import TransferCancellation
from workers.pipelines import PIPELINES
from workers.replication import COPY, STORE, VALIDATE

LEASE_SECONDS = 60.0
COPIED = Done("copied")
POLICY = Policy(attempts=5, backoff_first_seconds=30, backoff_max_seconds=600, attention_after_seconds=86_400)


def claim(
    sessions: Sessions,
    item: int,
    clock: ManualClock,
    *,
    worker: str = "a",
    volumes: tuple[str, ...] = (),
    stages=(COPY,),
) -> Claim | None:
    with sessions.begin() as session:
        return leases.claim(
            session, item, worker=worker, stages=stages, volumes=volumes, lease_seconds=LEASE_SECONDS, clock=clock
        )


def finish(
    sessions: Sessions, held: Claim, clock: ManualClock, outcome: Outcome = COPIED, volume: str | None = None
) -> None:
    change = lifecycle.decide(
        held.position, outcome, pipelines=PIPELINES, policy=POLICY, now=clock.now(), jitter=0.5
    )
    with sessions.begin() as session:
        transitions.finish(
            session,
            held,
            change,
            manifest=held.manifest,
            staging_volume=volume,
            events=[],
            pipelines=PIPELINES,
            worker="a",
            clock=clock,
        )


def row(sessions: Sessions, item: int) -> WorkItem:
    with sessions() as session:
        return session.get_one(WorkItem, item)


def test_of_many_that_claim_at_once_exactly_one_gets_the_item(
    sessions: Sessions, clock: ManualClock, item: int
) -> None:
    start = threading.Barrier(8)

    def contend(number: int) -> Claim | None:
        start.wait()
        return claim(sessions, item, clock, worker=f"worker-{number}")

    with ThreadPoolExecutor(8) as pool:
        claims = [held for held in pool.map(contend, range(8)) if held]
    assert len(claims) == 1
    assert row(sessions, item).lease_token == claims[0].token == 1


def test_an_item_that_is_held_cannot_be_claimed_until_its_lease_has_run_out(
    sessions: Sessions, clock: ManualClock, item: int
) -> None:
    assert claim(sessions, item, clock)
    clock.advance(LEASE_SECONDS - 1)
    assert claim(sessions, item, clock, worker="b") is None
    clock.advance(2)
    taken_over = claim(sessions, item, clock, worker="b")
    assert taken_over is not None
    assert taken_over.token == 2
    assert taken_over.attempts == 2


def test_a_lease_that_is_extended_does_not_run_out(sessions: Sessions, clock: ManualClock, item: int) -> None:
    held = claim(sessions, item, clock)
    assert held
    for _ in range(10):
        clock.advance(LEASE_SECONDS - 5)
        with sessions.begin() as session:
            assert leases.extend(session, [(item, held.token)], lease_seconds=LEASE_SECONDS, clock=clock) == {item}
        assert claim(sessions, item, clock, worker="b") is None


def test_a_worker_that_lost_its_lease_changes_nothing(sessions: Sessions, clock: ManualClock, item: int) -> None:
    late = claim(sessions, item, clock)
    clock.advance(LEASE_SECONDS + 1)
    holder = claim(sessions, item, clock, worker="b")
    assert late
    assert holder
    before = row(sessions, item)
    with pytest.raises(LeaseLost):
        finish(sessions, late, clock, Fail("late", TransferCancellation(CancelReason.OTHER, "late")))
    with pytest.raises(LeaseLost), sessions.begin() as session:
        transitions.save_progress(
            session,
            late,
            manifest={},
            staging_volume="x",
            note="late",
            events=[],
            worker="a",
            clock=clock,
            at=clock.now(),
            again=False,
        )
    with pytest.raises(LeaseLost), sessions.begin() as session:
        leases.holder(session, item, late.token)
    with sessions.begin() as session:
        assert leases.holder(session, item, holder.token) == "b"
    with sessions.begin() as session:
        assert leases.extend(session, [(item, late.token)], lease_seconds=LEASE_SECONDS, clock=clock) == set()
    after = row(sessions, item)
    for column in WorkItem.__table__.columns:
        assert getattr(after, column.name) == getattr(before, column.name), column.name
    with sessions() as session:
        assert session.scalars(select(WorkItem).where(WorkItem.task == Task.NOTICE)).all() == []
        assert session.scalars(select(AuditEvent)).all() == []
        assert session.scalars(select(DispatchIntent)).all() == []
    finish(sessions, holder, clock)
    assert row(sessions, item).stage == "validate"


def test_the_end_of_a_stage_commits_stage_event_and_intent_together(
    sessions: Sessions, clock: ManualClock, item: int
) -> None:
    held = claim(sessions, item, clock)
    assert held
    finish(sessions, held, clock, volume="disk-a")
    after = row(sessions, item)
    assert (after.stage, after.status, after.lease_owner, after.staging_volume) == (
        "validate",
        Status.PENDING,
        None,
        "disk-a",
    )
    with sessions() as session:
        assert session.scalars(select(DispatchIntent.topic)).all() == ["dpn_validation_topic.disk-a"]


def test_a_failure_leaves_a_notice_for_the_owner_once(sessions: Sessions, clock: ManualClock, item: int) -> None:
    held = claim(sessions, item, clock)
    assert held
    finish(sessions, held, clock, Fail("invalid", TransferCancellation(CancelReason.BAG_INVALID, "no payload")))
    with sessions() as session:
        notice = session.scalars(select(WorkItem).where(WorkItem.task == Task.NOTICE)).one()
    assert notice.identifier == held.identifier
    assert notice.remote_node == "north"
    assert notice.status == Status.PENDING
    assert notice.manifest["cancel_reason"] == "bag_invalid"


def test_an_item_on_a_volume_is_only_for_workers_that_mount_it(
    sessions: Sessions, clock: ManualClock, item: int
) -> None:
    held = claim(sessions, item, clock)
    assert held
    finish(sessions, held, clock, volume="disk-a")
    assert claim(sessions, item, clock, volumes=("disk-b",), stages=(VALIDATE,)) is None
    assert claim(sessions, item, clock, volumes=("disk-b", "disk-a"), stages=(VALIDATE,))


def test_a_worker_gets_only_items_of_its_own_stages(sessions: Sessions, clock: ManualClock, item: int) -> None:
    assert claim(sessions, item, clock, stages=(VALIDATE, STORE)) is None


def test_an_item_that_is_not_yet_due_is_neither_found_nor_claimed(
    sessions: Sessions, clock: ManualClock, item: int
) -> None:
    with sessions.begin() as session:
        session.get_one(WorkItem, item).run_after = clock.now()
    clock.advance(-1)
    with sessions() as session:
        assert leases.due_items(session, stages=[COPY], volumes=(), limit=10, clock=clock) == []
    assert claim(sessions, item, clock) is None
    clock.advance(2)
    with sessions() as session:
        assert leases.due_items(session, stages=[COPY], volumes=(), limit=10, clock=clock) == [item]


def test_leases_go_by_the_clock_of_the_database(
    sessions: Sessions, item: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's own is a year ahead: nobody else could have the item for that year, or everybody at once."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365)

    monkeypatch.setattr("dpn.clock.datetime", Ahead)
    clock = SystemClock()
    assert clock.now() > datetime.now(UTC) + timedelta(days=364)

    def expires_in(session: Session) -> float:
        expires = session.scalar(select(WorkItem.lease_expires_at).where(WorkItem.id == item))
        assert expires is not None
        return (expires - datetime.now(UTC)).total_seconds()  # the database is on this machine

    with sessions.begin() as session:
        held = leases.claim(
            session, item, worker="a", stages=[COPY], volumes=(), lease_seconds=LEASE_SECONDS, clock=clock
        )
        assert held is not None
        assert LEASE_SECONDS - 5 < expires_in(session) <= LEASE_SECONDS + 1
        leases.extend(session, [(item, held.token)], lease_seconds=2 * LEASE_SECONDS, clock=clock)
        assert 2 * LEASE_SECONDS - 5 < expires_in(session) <= 2 * LEASE_SECONDS + 1
    with sessions.begin() as session:
        assert not leases.due_items(session, stages=[COPY], volumes=(), limit=1, clock=clock), (
            "the lease has not run out"
        )


def test_an_item_that_has_ended_or_waits_is_held_by_nobody_though_its_token_is_the_same(
    sessions: Sessions, clock: ManualClock, item: int
) -> None:
    held = claim(sessions, item, clock)
    assert held is not None
    for status in Status:
        with sessions.begin() as session:
            session.execute(update(WorkItem).where(WorkItem.id == item).values(status=status))
        if status is Status.RUNNING:
            with sessions.begin() as session:
                leases.write_fenced(session, item, held.token, {"note": "mine"})
                assert leases.holder(session, item, held.token) == "a"
            continue
        with pytest.raises(LeaseLost), sessions.begin() as session:
            leases.write_fenced(session, item, held.token, {"note": "late"})
        with pytest.raises(LeaseLost), sessions.begin() as session:
            leases.holder(session, item, held.token)
        with sessions.begin() as session:
            kept = leases.extend(session, [(item, held.token)], lease_seconds=LEASE_SECONDS, clock=clock)
        assert kept == set()
    assert row(sessions, item).note == "mine"
