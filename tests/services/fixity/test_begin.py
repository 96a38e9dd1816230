"""Fixity items: made of copies that are due, once, within the limits; copies known and counted truly."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dpn.clock import ManualClock
from dpn.database import reading
from dpn.fixity.begin import copy_facts, demand
from dpn.fixity.copies import Copies, checked, remember
from dpn.fixity.coverage import not_known_here, of_others, of_ours
from dpn.fixity.settings import FixitySettings
from dpn.work.pipeline import Pipelines, StageSpec
from models.manifests import CheckManifest, CopyFacts, Receipt
from models.preservation import DrilledBag, FixityPace, StoredCopy
from models.registry import Bag, BagReplica, FixityCheck, Member
from models.work import AuditEvent, Status, Task, WorkItem
from tests.fixtures.scripted.bench import Bench
from workers.pipelines import PIPELINES
from workers.queue import Queue, QueueResult

CHECKING = Pipelines(
    [
        *(PIPELINES.of(task) for task in PIPELINES.tasks),
        replace(
            PIPELINES.of(Task.FIXITY), stages=(StageSpec(Task.FIXITY, "restore-init", "restore-init", "t_topic"),)
        ),
    ]
)
GB = 1_000_000_000
DAY_SECONDS = 86_400.0
DIGEST = "ab" * 32


def bag_id(number: int) -> str:
    return f"00000000-0000-4000-a000-{number:012d}"


def receipt(number: int, at: datetime, size: int = GB, sha256: str = DIGEST) -> Receipt:
    return Receipt(
        store="main", url=f"file:///store/{number}", key=f"{bag_id(number)}.tar", size=size, sha256=sha256,
        part_size=size, part_sha256=[sha256], confirmed_at=at, confirmed_by="read-back",
    )  # fmt: skip


def read_of(session: Session, bag: str) -> CopyFacts:
    """The copy as a check that reads it now knows it."""
    return copy_facts(session.get_one(StoredCopy, bag))


def store(bench: Bench, count: int, *, every_days: float = 10.0, first: int = 1, **values: Any) -> None:
    now = bench.clock.now()
    with bench.sessions.begin() as session:
        for number in range(first, first + count):
            remember(
                session,
                receipt(number, now, **values),
                bag=bag_id(number),
                tag_manifest_sha256=DIGEST,
                item_id=None,
                every_days=every_days,
            )


def run(bench: Bench, *, pipelines: Pipelines = CHECKING, **limits: Any) -> QueueResult:
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda _logger, _name, line: str(line)])
    settings = FixitySettings(**{"every_days": 10.0, **limits})
    return Queue(
        "us", frozenset(), bench.sessions, bench.broker, pipelines, bench.clock, log, settings  # type: ignore[arg-type]
    ).run()  # fmt: skip


def items(bench: Bench) -> list[WorkItem]:
    with reading(bench.sessions) as session:
        return list(session.scalars(select(WorkItem).where(WorkItem.task == Task.FIXITY).order_by(WorkItem.id)))


def bags_of(found: list[WorkItem]) -> list[str]:
    return [item.manifest["copied"]["bag"] for item in found]


def live(bench: Bench, days: int, **limits: Any) -> list[int]:
    """A run a day, each check ending well at once; how many began."""
    begun = []
    for _ in range(days):
        bench.clock.advance(DAY_SECONDS)
        begun.append(run(bench, **limits).checks_begun)
        with bench.sessions.begin() as session:
            for item in session.scalars(select(WorkItem).where(WorkItem.status == Status.PENDING)):
                item.status = Status.SUCCESS
                checked(
                    session,
                    read_of(session, item.manifest["copied"]["bag"]),
                    good=True,
                    at=bench.clock.now(),
                    every_days=10.0,
                )
    return begun


def test_every_copy_is_checked_once_in_the_promised_time_as_many_every_day(bench: Bench) -> None:
    store(bench, 95)
    begun = live(bench, 12)
    assert sum(begun[:10]) >= 95
    assert set(begun[1:]) <= {9, 10, 11, 12, 13}, "the first day begins with one: the others make up for it"
    assert len(set(bags_of(items(bench)))) == 95


def test_a_run_while_the_clock_was_a_year_ahead_stops_no_check_for_that_year(bench: Bench) -> None:
    store(bench, 20)
    live(bench, 2)
    right = bench.clock.now()
    bench.clock.advance(365 * DAY_SECONDS)
    assert run(bench).checks_begun
    with bench.sessions.begin() as session:  # what began then was stopped
        session.execute(update(WorkItem).values(status=Status.CANCELLED))
    bench.clock = ManualClock(right)
    begun = live(bench, 10)
    assert sum(begun) >= 18, begun
    with reading(bench.sessions) as session:
        assert session.scalars(select(StoredCopy.bag).where(StoredCopy.begun_at > bench.clock.now())).all() == []


def test_a_damaged_copy_stops_no_other_check_and_is_told_of(bench: Bench) -> None:
    store(bench, 3)
    with bench.sessions.begin() as session:
        session.execute(update(StoredCopy).where(StoredCopy.bag == bag_id(1)).values(receipt={"store": 5}))
    told: set[str] = set()
    for _ in range(10):
        bench.clock.advance(DAY_SECONDS)
        told |= set(run(bench).errors)
    assert told == {f"our copy of bag {bag_id(1)} is not checked: its row is damaged: repair it"}
    assert sorted(set(bags_of(items(bench)))) == [bag_id(2), bag_id(3)]
    with reading(bench.sessions) as session:
        assert session.get_one(StoredCopy, bag_id(1)).due_at <= bench.clock.now(), (
            "it stays overdue, for all to see"
        )


def test_a_check_of_a_time_ahead_hides_none_of_a_right_one_and_puts_none_off(bench: Bench) -> None:
    store(bench, 2)
    now = bench.clock.now()
    for at, good in ((now + timedelta(days=365), True), (now, False)):
        with bench.sessions.begin() as session:
            assert checked(session, read_of(session, bag_id(1)), good=good, at=at, every_days=10.0)
    with bench.sessions.begin() as session:
        checked(session, read_of(session, bag_id(2)), good=True, at=now + timedelta(days=365), every_days=10.0)
    run(bench)
    with reading(bench.sessions) as session:
        first, second = (session.get_one(StoredCopy, bag_id(number)) for number in (1, 2))
    assert (first.outcome, first.checked_at) == ("bad", now)
    assert second.due_at == now + timedelta(days=10)


def test_an_item_says_which_copy_and_has_the_id_that_its_record_gets(bench: Bench) -> None:
    store(bench, 1)
    bench.clock.advance(2 * DAY_SECONDS)
    assert run(bench).checks_begun == 1
    (item,) = items(bench)
    manifest = CheckManifest.read(item.manifest)
    assert isinstance(manifest, CheckManifest)
    assert (manifest.copied.bag, manifest.copied.receipt.sha256) == (bag_id(1), DIGEST)
    assert (item.identifier[14], item.stage, item.remote_node) == ("4", "restore-init", None)
    with reading(bench.sessions) as session:
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.object_id == item.identifier))
    assert (event.event_type, event.detail["bag"]) == ("item created", bag_id(1))
    assert bench.queues.waiting() == [("t_topic", item.id)]


def test_no_check_begins_while_another_of_the_same_bag_has_not_ended(bench: Bench) -> None:
    store(bench, 1)
    for _ in range(30):
        bench.clock.advance(DAY_SECONDS)
        run(bench)
    assert len(items(bench)) == 1


def test_a_check_that_was_cancelled_begins_again_but_not_at_once(bench: Bench) -> None:
    store(bench, 2)
    bench.clock.advance(DAY_SECONDS * 2)
    run(bench, every_days=100.0)
    with bench.sessions.begin() as session:
        session.execute(update(WorkItem).values(status=Status.CANCELLED))
        session.execute(update(FixityPace).values(credit=1e15))
    run(bench, every_days=100.0)
    assert sorted(bags_of(items(bench))) == [bag_id(1), bag_id(2)], "the other one's turn"
    with bench.sessions.begin() as session:
        session.execute(update(WorkItem).values(status=Status.CANCELLED))
    bench.clock.advance(8 * DAY_SECONDS)
    with bench.sessions.begin() as session:
        session.execute(update(FixityPace).values(credit=1e15, paced_at=bench.clock.now()))
    run(bench, every_days=100.0)
    assert len(items(bench)) > 2


def test_of_many_runs_at_once_one_begins_what_may_begin(bench: Bench) -> None:
    store(bench, 95)
    bench.clock.advance(DAY_SECONDS)
    run(bench)
    bench.clock.advance(DAY_SECONDS)
    with ThreadPoolExecutor(4) as pool:
        begun = [result.checks_begun for result in pool.map(lambda _: run(bench), range(4))]
    assert sorted(begun)[:3] == [0, 0, 0]
    assert 8 <= sum(begun) <= 13
    assert len(set(bags_of(items(bench)))) == len(items(bench))


def test_no_more_bytes_begin_in_a_day_than_the_settings_allow(bench: Bench) -> None:
    store(bench, 95)
    assert max(live(bench, 5, max_bytes_per_day=4 * GB)) == 4
    assert max(live(bench, 3, max_retrieval_cost_per_month=0.001, retrieval_cost_per_gb=1.0)) == 0


def test_without_the_stages_that_check_no_item_is_made(bench: Bench) -> None:
    store(bench, 3)
    bench.clock.advance(DAY_SECONDS * 2)
    without = Pipelines(PIPELINES.of(task) for task in PIPELINES.tasks if task != Task.FIXITY)
    assert run(bench, pipelines=without).checks_begun == 0


def test_a_copy_remembered_again_keeps_what_its_checks_found_and_a_new_one_is_unchecked(bench: Bench) -> None:
    store(bench, 1)
    at = bench.clock.now()
    with bench.sessions.begin() as session:
        checked(session, read_of(session, bag_id(1)), good=True, at=at, every_days=10.0)
    copies = Copies(bench.sessions, 10.0)
    copies.remember(receipt(1, at + timedelta(1)), bag=bag_id(1), tag_manifest_sha256=DIGEST, item_id=5)
    assert the_copy(bench).outcome == "good"
    with bench.sessions.begin() as session:
        checked(session, read_of(session, bag_id(1)), good=False, at=at + timedelta(2), every_days=100.0)
    assert (the_copy(bench).outcome, the_copy(bench).due_at) == ("bad", at + timedelta(32))
    copies.remember(receipt(1, at + timedelta(3)), bag=bag_id(1), tag_manifest_sha256=DIGEST, item_id=5)
    assert (the_copy(bench).outcome, the_copy(bench).checked_at) == ("unchecked", None)


def test_a_verdict_that_comes_late_changes_nothing_that_a_later_reading_has_found(bench: Bench) -> None:
    store(bench, 1)
    at = bench.clock.now()
    with bench.sessions.begin() as session:
        read = read_of(session, bag_id(1))
        assert checked(session, read, good=False, at=at + timedelta(2), every_days=10.0)
        assert not checked(session, read, good=True, at=at + timedelta(1), every_days=10.0)
    assert (the_copy(bench).outcome, the_copy(bench).checked_at) == ("bad", at + timedelta(2))


@pytest.mark.parametrize(
    "changes",
    [{"version_id": "v2"}, {"key": "elsewhere.tar"}, {"sha256": "cd" * 32}, {"store": "other"}, {}],
    ids=["another version", "another key", "other bytes", "another store", "no versions"],
)
def test_a_verdict_on_a_copy_that_another_one_has_replaced_says_nothing_of_that(
    bench: Bench, changes: dict[str, str]
) -> None:
    store(bench, 1)
    at = bench.clock.now()
    with bench.sessions.begin() as session:
        before = read_of(session, bag_id(1))
        checked(session, before, good=False, at=at, every_days=10.0)
    now_there = receipt(1, at + timedelta(1)).model_copy(update=changes)
    Copies(bench.sessions, 10.0).remember(now_there, bag=bag_id(1), tag_manifest_sha256=DIGEST, item_id=5)
    with bench.sessions.begin() as session:
        assert not checked(session, before, good=False, at=at + timedelta(2), every_days=10.0)
        assert (the_copy(bench).outcome, the_copy(bench).checked_at) == ("unchecked", None)
        assert checked(session, read_of(session, bag_id(1)), good=True, at=at + timedelta(2), every_days=10.0)


@pytest.mark.parametrize("changes", [{"version_id": "v2"}, {"etag": "2"}], ids=["version", "entity tag"])
def test_a_newer_object_under_the_same_key_is_entered_whatever_was_found_of_the_one_before(
    bench: Bench, changes: dict[str, str]
) -> None:
    store(bench, 1)
    at = bench.clock.now()
    with bench.sessions.begin() as session:
        checked(session, read_of(session, bag_id(1)), good=True, at=at, every_days=10.0)
    copies, told = Copies(bench.sessions, 10.0), {"bag": bag_id(1), "tag_manifest_sha256": DIGEST, "item_id": 5}
    copies.remember(receipt(1, at + timedelta(1)).model_copy(update=changes), **told)  # type: ignore[arg-type]
    copies.remember(receipt(1, at - timedelta(1)), **told)  # type: ignore[arg-type]
    copy = the_copy(bench)
    assert copy.receipt | changes == copy.receipt
    assert (copy.outcome, copy.checked_at, copy.item_id) == ("unchecked", None, 5)


def the_copy(bench: Bench) -> StoredCopy:
    with reading(bench.sessions) as session:
        return session.get_one(StoredCopy, bag_id(1))


def test_copies_from_before_there_were_checks_are_entered_once_and_are_not_overdue_at_once(bench: Bench) -> None:
    long_ago = bench.clock.now() - timedelta(days=5000)
    for number in range(1, 4):
        item = bench.make_item(number)
        manifest = {
            "receipt": json.loads(receipt(number, long_ago).model_dump_json()),
            "transfer": {"bag": bag_id(number)},
            "validation": {"tag_manifest_sha256": DIGEST},
        }
        with bench.sessions.begin() as session:
            session.execute(
                update(WorkItem)
                .where(WorkItem.id == item)
                .values(status=Status.SUCCESS, manifest=manifest if number < 3 else {"receipt": "damaged"})
            )
    assert run(bench).copies_entered == 2
    assert run(bench).copies_entered == 0
    with reading(bench.sessions) as session:
        copies = session.scalars(select(StoredCopy)).all()
        assert session.scalars(select(FixityPace.items_taken_in)).one() >= 3
    assert {copy.due_at for copy in copies} == {bench.clock.now() + timedelta(10)}
    assert {copy.stored_at for copy in copies} == {long_ago}


def test_what_is_due_is_summed_up_by_day(bench: Bench) -> None:
    store(bench, 3)
    bench.clock.advance(DAY_SECONDS)
    store(bench, 2, first=10, size=5)
    with reading(bench.sessions) as session:
        assert [(one.load.checks, one.load.bytes) for one in demand(session)] == [(3, 3 * GB), (2, 10)]


@pytest.fixture
def counted(bench: Bench) -> Bench:
    """Our copies 1 to 5: good, bad, never checked, overdue, good by our record alone. North has 1, 2 and 3."""
    store(bench, 5, every_days=100.0)
    now = bench.clock.now()
    with bench.sessions.begin() as session:
        session.add(Member(member_id=bag_id(99), name="Library", email="a@b", created_at=now, updated_at=now))
        for number in range(1, 7):
            id_ = bag_id(number)
            session.add(
                Bag(
                    uuid=id_,
                    local_id=id_,
                    size=7,
                    first_version_uuid=id_,
                    version=1,
                    bag_type="D",
                    interpretive=[],
                    rights=[],
                    ingest_node="north",
                    admin_node="north",
                    member=bag_id(99),
                    created_at=now - timedelta(1000),
                    updated_at=now,
                )
            )
        session.flush()
        session.add_all(BagReplica(bag=bag_id(number), node="us") for number in (1, 6))
        session.add_all(BagReplica(bag=bag_id(number), node="north") for number in (1, 2, 3))
        checks = [
            ("us", 5, True, 3),
            ("us", 2, True, 4),
            ("north", 1, False, 9),
            ("north", 1, True, 5),
            ("north", 2, False, 2),
        ]
        for number, (node, bag, success, days) in enumerate(checks):
            at = now - timedelta(days)
            session.add(
                FixityCheck(
                    fixity_check_id=bag_id(200 + number),
                    bag=bag_id(bag),
                    node=node,
                    success=success,
                    fixity_at=at,
                    created_at=at,
                )
            )
        checked(session, read_of(session, bag_id(1)), good=True, at=now, every_days=100.0)
        checked(session, read_of(session, bag_id(2)), good=False, at=now, every_days=100.0)
        session.execute(
            update(StoredCopy).where(StoredCopy.bag == bag_id(4)).values(due_at=now - timedelta(seconds=1))
        )
    return bench


def test_our_copies_are_counted_by_what_is_known_of_them(counted: Bench) -> None:
    with reading(counted.sessions) as session:
        now = counted.clock.now()
        (ours,) = of_ours(session, "us", now=now, days=100.0, trusted_checksums=True)
        (strictly,) = of_ours(session, "us", now=now, days=100.0, trusted_checksums=False)
        assert not_known_here(session, "us") == 1
    assert (ours.name, ours.copies, ours.bytes) == ("Library", 5, 5 * GB)
    assert (ours.checked, ours.overdue, ours.failed, ours.never) == (2, 1, 1, 2)
    assert (ours.proven, ours.claimed) == (strictly.proven, strictly.claimed) == (4, 0), "all were read back"


def test_copies_by_the_word_of_a_store_that_is_not_trusted_are_claims_until_they_were_checked(
    counted: Bench,
) -> None:
    with counted.sessions.begin() as session:
        for copy in session.scalars(select(StoredCopy)):
            copy.receipt = {**copy.receipt, "confirmed_by": "store-checksums"}
    counts = []
    for trusted in (True, False):
        with reading(counted.sessions) as session:
            (ours,) = of_ours(session, "us", now=counted.clock.now(), days=100.0, trusted_checksums=trusted)
        counts.append((ours.proven, ours.claimed, ours.failed))
    assert counts == [(4, 0, 1), (2, 2, 1)]


def test_another_nodes_copy_is_a_claim_until_a_drill_has_brought_it_back(counted: Bench) -> None:
    drills = {
        1: Status.SUCCESS,
        2: Status.SUCCESS,
        3: Status.FAILED,
    }
    for number, status in drills.items():
        item = counted.make_item(700 + number)
        with counted.sessions.begin() as session:
            session.get_one(WorkItem, item).status = status
            drilled = DrilledBag(
                item_id=item,
                drill_id=bag_id(900),
                source="peer:north",
                bag=bag_id(number),
                begun_at=counted.clock.now(),
            )
            session.add_all([drilled])
    with reading(counted.sessions) as session:
        (north,) = of_others(session, "us", now=counted.clock.now(), days=100.0)
    assert (north.copies, north.proven, north.claimed, north.failed) == (3, 1, 1, 1), "its node found 2 bad since"


def test_other_nodes_copies_are_counted_by_their_records(counted: Bench) -> None:
    with reading(counted.sessions) as session:
        (north,) = of_others(session, "us", now=counted.clock.now(), days=100.0)
        (strictly,) = of_others(session, "us", now=counted.clock.now(), days=4.0)
    assert (north.node, north.copies, north.bytes) == ("north", 3, 21)
    assert (north.checked, north.overdue, north.failed, north.never) == (1, 2, 1, 1)
    assert (strictly.checked, strictly.overdue) == (0, 3)
