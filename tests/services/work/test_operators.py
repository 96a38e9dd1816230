"""What operators may do to items, and what they see."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from dpn.cancellation import Cancellation
from dpn.errors import LeaseLost
from dpn.registry.rules.flags import CancelReason
from dpn.work.items import NotAllowed, acknowledge_item, cancel_item, retry_item
from dpn.work.outcomes import Done, Fail, StartOver
from dpn.work.progress import StageProgress
from dpn.work.queries import PAGE, ItemFilter, NoSuchItem, list_items
from models.work import Status, WorkItem
from tests.fixtures.scripted.bench import POLICY, Bench
from workers.cancellations import TransferCancellation
from workers.pipelines import PIPELINES
from workers.runner.lease_keeper import LeaseKeeper


def retry(bench: Bench, item: int, operator: str = "ann@host") -> WorkItem:
    with bench.sessions.begin() as session:
        return retry_item(session, item, operator=operator, pipelines=PIPELINES, clock=bench.clock)


def cancel(bench: Bench, item: int, reason: str = "not wanted", operator: str = "ann@host") -> WorkItem:
    with bench.sessions.begin() as session:
        return cancel_item(session, item, reason=reason, operator=operator, pipelines=PIPELINES, clock=bench.clock)


def test_a_retry_makes_a_failed_item_due_with_all_its_attempts(bench: Bench) -> None:
    item = bench.make_item(attempts=POLICY.attempts - 1)
    bench.run(item, lambda _: Fail("the disk broke"))
    bench.clock.advance(3600)
    again = retry(bench, item)
    assert (again.status, again.attempts, again.needs_attention) == (Status.PENDING, 0, False)
    assert "ann@host" in again.note
    assert bench.due_in(item) <= 0
    assert bench.intents() == [("dpn_copy_topic", item)]
    assert bench.run(item, lambda _: Done("copied")).stage == "validate"
    assert "operator retry" in [event.event_type for event in bench.events(item)]


def test_a_retry_forgives_earlier_restarts_too(bench: Bench) -> None:
    item = bench.make_item()
    for _ in range(POLICY.attempts + 1):
        bench.run(item, lambda _: Done("copied"))
        bench.run(item, lambda _: StartOver("copy", "the staged bag is gone"))
        bench.clock.advance(600)
    assert bench.item(item).status == Status.FAILED
    retry(bench, item)
    assert bench.run(item, lambda _: StartOver("copy", "gone again")).status == Status.PENDING


def test_only_what_has_not_succeeded_and_does_not_run_may_be_retried(bench: Bench) -> None:
    done, running = bench.make_item(1, status=Status.SUCCESS), bench.make_item(2)
    bench.claim(running)
    for item in (done, running):
        with pytest.raises(NotAllowed):
            retry(bench, item)
    with pytest.raises(NoSuchItem):
        retry(bench, 99)


def test_a_cancelled_item_is_taken_from_its_worker_and_its_owner_will_be_told(bench: Bench) -> None:
    item = bench.make_item()
    held, told = bench.claim(item), Cancellation()
    keeper = LeaseKeeper(bench.sessions, lease_seconds=60, clock=bench.clock, log=bench.runner("copy", done).log)
    keeper.hold(held, told, StageProgress(bench.clock), claimed_at=bench.clock.monotonic())
    keeper.extend_all()
    assert not told.requested
    cancel(bench, item, "a duplicate")
    keeper.extend_all()
    with pytest.raises(LeaseLost):
        told.check()
    after = bench.run(item, done, claim=held)
    assert (after.status, after.lease_owner) == (Status.CANCELLED, None)
    (notice,) = bench.notices()
    assert (notice.manifest["cancel_reason"], notice.manifest["cancel_reason_detail"]) == ("reject", "a duplicate")


def done(_: object) -> Done:
    return Done("done")


def test_a_stored_copy_cannot_be_cancelled_away(bench: Bench) -> None:
    item = bench.make_item()
    with bench.sessions.begin() as session:
        row = session.get_one(WorkItem, item)
        row.manifest = {**row.manifest, "receipt": {"store": "main"}}
    with pytest.raises(NotAllowed, match="stored copy"):
        cancel(bench, item)


def test_what_has_ended_and_what_we_owe_cannot_be_cancelled(bench: Bench) -> None:
    item = bench.make_item()
    cancel(bench, item)
    with pytest.raises(NotAllowed, match="already ended"):
        cancel(bench, item)
    (notice,) = bench.notices()
    with pytest.raises(NotAllowed, match="owe"):
        cancel(bench, notice.id)


def test_what_an_operator_types_cannot_break_the_database(bench: Bench) -> None:
    """Arguments that are not UTF-8 come as surrogates."""
    item = bench.make_item()
    assert cancel(bench, item, reason="a\0b\udcff" + "x" * 300, operator="ann\udcff").status == Status.CANCELLED
    assert len(bench.notices()[0].manifest["cancel_reason_detail"]) == 255
    assert retry(bench, item, operator="ann\udcff").note == "retried by ann\N{REPLACEMENT CHARACTER}"
    bench.run(item, lambda _: Fail("no"))
    with bench.sessions.begin() as session:
        acknowledge_item(session, item, reason="seen\0\udcff", operator="ann\udcff", clock=bench.clock)


def test_items_are_listed_in_pages_by_what_is_asked(bench: Bench) -> None:
    first = bench.make_item(1)
    template = bench.item(first)
    columns = {c.key: getattr(template, c.key) for c in WorkItem.__mapper__.columns if c.key != "id"}
    rows = [{**columns, "identifier": f"item-{n}", "needs_attention": n % 2 == 0} for n in range(2 * PAGE)]
    with bench.sessions.begin() as session:
        session.execute(WorkItem.__table__.insert(), rows)  # type: ignore[attr-defined]
        session.get_one(WorkItem, first).stage = "store"
    with bench.sessions() as session:
        assert len(list(list_items(session, ItemFilter()))) == 2 * PAGE + 1
        assert len(list(list_items(session, ItemFilter(needs_attention=True)))) == PAGE
        assert [item.id for item in list_items(session, ItemFilter(stage="store"))] == [first]
        assert list(list_items(session, ItemFilter(status="failed"))) == []


def test_a_retry_takes_back_what_its_owner_has_not_heard_and_a_second_failure_owes_it_anew(bench: Bench) -> None:
    item = bench.make_item()
    given_up = Fail("the disk broke", TransferCancellation(CancelReason.OTHER, "the disk broke"))
    bench.run(item, lambda _: given_up)
    (owed,) = bench.notices()
    telling = bench.claim(owed.id)
    retry(bench, item)
    (withdrawn,) = bench.notices()
    assert (withdrawn.status, withdrawn.needs_attention) == (Status.CANCELLED, False)
    assert bench.run(owed.id, done, claim=telling).status == Status.CANCELLED, "who is telling it has lost it"
    again = Fail("it broke again", TransferCancellation(CancelReason.OTHER, "it broke again"))
    bench.run(item, lambda _: again)
    (owed,) = bench.notices()
    assert (owed.status, owed.manifest["cancel_reason_detail"]) == (Status.PENDING, "it broke again")
    assert bench.run(owed.id, done).status == Status.SUCCESS
    retry(bench, item)
    assert bench.notices()[0].status == Status.SUCCESS, "what was heard was heard"


@pytest.mark.parametrize("manifest", ["[1, 2]", '"a word"', "null", "{broken"])
def test_an_item_whose_manifest_is_damaged_can_be_listed_retried_and_cancelled(
    bench: Bench, manifest: str
) -> None:
    item = bench.make_item()
    if bench.sessions.kw["bind"].dialect.name != "sqlite" and manifest == "{broken":
        pytest.skip("PostgreSQL refuses what is no JSON")
    with bench.sessions.begin() as session:
        session.execute(
            text("UPDATE work_items SET manifest = :manifest WHERE id = :id"), {"manifest": manifest, "id": item}
        )
    with bench.sessions() as session:
        assert [row.id for row in list_items(session, ItemFilter())] == [item]
    assert retry(bench, item).status == Status.PENDING
    assert cancel(bench, item).status == Status.CANCELLED
