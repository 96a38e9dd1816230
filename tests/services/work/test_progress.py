"""How far a stage is can be seen while it runs, as its present holder says, and costs its manifest nothing."""

from __future__ import annotations

import pytest
import structlog

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import reading
from dpn.work import progress
from dpn.work.outcomes import Done
from dpn.work.progress import Reached, StageProgress
from tests.fixtures.scripted.bench import LEASE_SECONDS, Bench
from workers.runner.lease_keeper import LeaseKeeper


def seen(bench: Bench, item: int) -> Reached | None:
    with reading(bench.sessions) as session:
        return progress.of_items(session, [item]).get(item)


@pytest.fixture
def keeper(bench: Bench) -> LeaseKeeper:
    log = structlog.wrap_logger(structlog.ReturnLogger())
    return LeaseKeeper(bench.sessions, lease_seconds=LEASE_SECONDS, clock=bench.clock, log=log)


def test_what_a_stage_tells_is_written_with_its_lease(bench: Bench, item: int, keeper: LeaseKeeper) -> None:
    claim, told = bench.claim(item), StageProgress(bench.clock)
    keeper.hold(claim, Cancellation(), told, claimed_at=bench.clock.monotonic())
    keeper.extend_all()
    assert seen(bench, item) is None, "it has told nothing"
    told.begin("copying", bytes_total=1000)
    bench.clock.advance(2)
    told.reach(400, 3)
    keeper.extend_all()
    reached = seen(bench, item)
    assert reached is not None
    assert (reached.doing, reached.bytes_done, reached.files_done) == ("copying", 400, 3)
    assert (reached.bytes_per_second, reached.seconds_left) == (200, 3)
    assert reached.at == bench.clock.now()


def test_what_an_earlier_holder_told_is_not_shown_and_an_end_leaves_nothing(
    bench: Bench, item: int, keeper: LeaseKeeper
) -> None:
    first, told = bench.claim(item), StageProgress(bench.clock)
    keeper.hold(first, Cancellation(), told, claimed_at=bench.clock.monotonic())
    told.begin("copying")
    keeper.extend_all()
    assert seen(bench, item) is not None
    bench.clock.advance(LEASE_SECONDS + 1)
    second = bench.claim(item, worker="b")
    assert seen(bench, item) is None
    told.reach(5)
    keeper.extend_all()
    assert seen(bench, item) is None, "a late holder's word counts no more"
    bench.run(item, lambda _: Done("stored", ends_item=True), claim=second)
    with reading(bench.sessions) as session:
        assert session.query(progress.WorkProgress).count() == 0


def test_the_rate_is_that_of_the_last_seconds_and_news_come_once() -> None:
    clock = ManualClock()
    told = StageProgress(clock)
    assert (told.news(), told.is_news) == (None, False)
    told.begin("copying", bytes_total=10_000)
    for second in range(1, 31):
        clock.advance(1)
        told.reach(second * 10 if second <= 15 else 150 + (second - 15) * 100)
        news = told.news()
        assert news is not None
    assert news.bytes_per_second == 100
    assert (told.news(), told.is_news) == (None, False)
    told.reach(news.bytes_done)
    assert not told.is_news, "nothing has changed"
    told.begin("reading it back")
    fresh = told.news()
    assert fresh is not None
    assert (fresh.bytes_done, fresh.bytes_total, fresh.bytes_per_second) == (0, None, None)


def test_words_from_outside_cannot_disturb_what_is_shown() -> None:
    told = StageProgress(ManualClock())
    told.begin("copying \x1b[31m\nfrom" + "x" * 1000)
    news = told.news()
    assert news is not None
    assert news.doing.isprintable()
    assert len(news.doing) <= progress.MAX_DOING_CHARACTERS


def test_what_cannot_be_written_of_one_stage_costs_no_lease(bench: Bench, item: int, keeper: LeaseKeeper) -> None:
    other, told = bench.make_item(2), [StageProgress(bench.clock) for _ in range(2)]
    for number, progress_ in zip((item, other), told, strict=True):
        keeper.hold(bench.claim(number), Cancellation(), progress_, claimed_at=bench.clock.monotonic())
        progress_.begin("copying")
    told[0].reach(2**70)  # more than any database takes
    bench.clock.advance(LEASE_SECONDS - 1)
    keeper.extend_all()
    for number in (item, other):
        expires_at = bench.item(number).lease_expires_at
        assert expires_at is not None
        assert (expires_at - bench.clock.now()).total_seconds() == LEASE_SECONDS
