"""What every broker promises, held against each: whatever it is, an announced item reaches a worker.

The worker here does what a real one must: it looks into the database when told to, takes no more than it has slots
for, and claims an item before it works on it. It never sweeps by itself: what it hears comes from the broker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import wraps
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, text

from dpn.broker import Broker, BrokerUnavailable
from dpn.broker.embedded import EmbeddedBroker
from dpn.broker.memory import MemoryBroker, MemoryQueues
from dpn.broker.nsq import NsqBroker
from dpn.broker.settings import NsqSettings
from dpn.clock import SystemClock
from dpn.database import open_engine
from tests.fixtures.scripted.node import NEVER_SECONDS, nsq_settings

PATIENCE_SECONDS = 15.0
QUIET_SECONDS = 0.3
"""For what must not happen: embedded looks ten times a second, a message takes milliseconds."""
NOBODY_LISTENS = "127.0.0.1:9"

_numbers = count(1)


@dataclass
class Brokers:
    """One node's brokers: a database of due items, and any number of processes that share a broker."""

    engine: Engine
    open: Callable[[], Broker]
    open_down: Callable[[], Broker] | None = None
    """One whose server is not there; None for a kind that has no server of its own."""
    pushes: bool = True
    """Whether messages come by themselves once there is a slot; else a worker looks when it has one."""
    topic: str = field(default_factory=lambda: f"contract_{os.getpid()}_{next(_numbers)}_topic")
    other_topic: str = field(default_factory=lambda: f"contract_{os.getpid()}_{next(_numbers)}_topic")

    def make_due(self, *items: int, topic: str = "") -> None:
        with self.engine.begin() as connection:
            rows = [{"item": item, "topic": topic or self.topic} for item in items]
            connection.execute(text("INSERT INTO due (item, topic) VALUES (:item, :topic)"), rows)

    def announce(self, *items: int, topic: str = "", by: Broker | None = None) -> None:
        """What a process does that made items and runs none."""
        self.make_due(*items, topic=topic)
        (by or self.open()).publish(topic or self.topic, *items)

    def due(self, topic: str) -> list[int]:
        with self.engine.connect() as connection:
            statement = text("SELECT item FROM due WHERE topic = :topic ORDER BY item")
            return list(connection.execute(statement, {"topic": topic}).scalars())

    def claim(self, item: int) -> bool:
        with self.engine.begin() as connection:
            return connection.execute(text("DELETE FROM due WHERE item = :item"), {"item": item}).rowcount == 1


class Worker:
    """See the module's docstring. `answer` says what becomes of a message once there is a slot for it."""

    def __init__(self, brokers: Brokers, *, slots: int, answer: Callable[[], bool] = lambda: True) -> None:
        self.brokers = brokers
        self.broker = brokers.open()
        self.slots = slots
        self.answer = answer
        self.offered: list[tuple[str, int]] = []
        self.claimed: list[int] = []
        self.woken = 0

    async def start(self) -> Worker:
        await self.broker.start([self.brokers.topic], self._offer, self._look)
        self.broker.set_free_slots(self.slots)
        return self

    def give_slots(self, slots: int) -> None:
        self.slots = slots
        self.broker.set_free_slots(slots)
        if not self.brokers.pushes:
            self._look()

    async def _offer(self, topic: str, body: bytes) -> bool:
        self.offered.append((topic, int(body)))
        if not self.slots or not self.answer():
            return False
        self._claim(int(body))
        return True

    def _look(self) -> None:
        self.woken += 1
        for item in self.brokers.due(self.brokers.topic)[: self.slots]:
            try:
                able = self.answer()
            except RuntimeError:
                return
            if able:
                self._claim(item)

    def _claim(self, item: int) -> None:
        if self.brokers.claim(item):
            self.claimed.append(item)
            self.slots -= 1
            self.broker.set_free_slots(self.slots)


@pytest.fixture
def database(sqlite_engine: Engine) -> Engine:
    return _with_due(sqlite_engine)


@pytest.fixture
def nsq(database: Engine, nsqd_entry: dict[str, Any]) -> Brokers:
    def opened(**changes: Any) -> Broker:
        settings = NsqSettings(**nsq_settings(nsqd_entry, static=True)["nsq"] | changes)
        return NsqBroker(settings, client_name="dpn/test")

    return Brokers(database, opened, lambda: opened(nsqd_http_addresses=[NOBODY_LISTENS]))


@pytest.fixture
def memory(database: Engine) -> Brokers:
    up, down = MemoryQueues(SystemClock()), MemoryQueues(SystemClock())
    down.down = True
    return Brokers(database, lambda: MemoryBroker(up), lambda: MemoryBroker(down))


@pytest.fixture
def sqlite(database: Engine) -> Brokers:
    return Brokers(database, lambda: EmbeddedBroker(database, poll_seconds=NEVER_SECONDS), pushes=False)


@pytest.fixture
def postgresql(migrated_url: str) -> Iterator[Brokers]:
    here, nowhere = open_engine(migrated_url), open_engine(f"postgresql+psycopg://dpn@{NOBODY_LISTENS}/dpn")
    yield Brokers(
        _with_due(here),
        lambda: EmbeddedBroker(here, poll_seconds=NEVER_SECONDS),
        lambda: EmbeddedBroker(nowhere, poll_seconds=NEVER_SECONDS),
        pushes=False,
    )
    here.dispose()


def _with_due(engine: Engine) -> Engine:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE due (item INTEGER PRIMARY KEY, topic TEXT)"))
    return engine


WITH_MESSAGES = pytest.mark.parametrize("brokers", ["nsq", "memory"], indirect=True)
"""Where a worker looks for itself, nothing is refused, and nothing has to be settled."""
WITH_A_SERVER = pytest.mark.parametrize("brokers", ["nsq", "postgresql", "memory"], indirect=True)
"""SQLite has none that could be down."""


@pytest.fixture(params=["nsq", "sqlite", "postgresql", "memory"])
def brokers(request: pytest.FixtureRequest) -> Brokers:
    found: Brokers = request.getfixturevalue(request.param)
    return found


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs the test on an event loop of its own."""

    @wraps(test)
    def run(*arguments: Any, **values: Any) -> None:
        asyncio.run(test(*arguments, **values))  # type: ignore[arg-type]

    return run


class Workers(AsyncExitStack):
    """Workers that stop when the test ends."""

    async def start(
        self, brokers: Brokers, *, slots: int = 1, answer: Callable[[], bool] = lambda: True
    ) -> Worker:
        worker = await Worker(brokers, slots=slots, answer=answer).start()
        self.push_async_callback(worker.broker.stop)
        return worker


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def quiet() -> None:
    await asyncio.sleep(QUIET_SECONDS)


def refuses() -> bool:
    return False


def fails() -> bool:
    raise RuntimeError("a bug")


@in_a_loop
async def test_a_worker_that_starts_is_told_to_look_for_what_is_due(brokers: Brokers) -> None:
    """Whatever was announced before, or should have been."""
    brokers.make_due(7)
    async with Workers() as workers:
        worker = await workers.start(brokers)
        await until(lambda: worker.claimed == [7])


@in_a_loop
async def test_what_another_process_announces_reaches_a_worker_without_a_poll(brokers: Brokers) -> None:
    async with Workers() as workers:
        worker = await workers.start(brokers, slots=3)
        for item in (1, 2, 3):
            await asyncio.to_thread(brokers.announce, item)
            await until(lambda item=item: worker.claimed[-1:] == [item])


@in_a_loop
async def test_what_the_worker_itself_announces_reaches_it(brokers: Brokers) -> None:
    """From any of its threads: a stage that ends announces the next one."""
    async with Workers() as workers:
        worker = await workers.start(brokers, slots=2)
        await asyncio.to_thread(brokers.announce, 1, by=worker.broker)
        brokers.announce(2, by=worker.broker)
        await until(lambda: sorted(worker.claimed) == [1, 2])


@in_a_loop
async def test_every_item_of_an_announcement_reaches_a_worker_and_repeats_are_harmless(brokers: Brokers) -> None:
    items = list(range(1, 101))
    async with Workers() as workers:
        several = [await workers.start(brokers, slots=len(items)) for _ in range(3)]
        brokers.announce(*items)
        publisher = brokers.open()
        for _ in range(3):
            publisher.publish(brokers.topic, *items)
        await until(lambda: sorted(item for worker in several for item in worker.claimed) == items)
        await until(lambda: publisher.waiting(brokers.topic) == 0)
        assert {topic for worker in several for topic, _ in worker.offered} <= {brokers.topic}


@in_a_loop
async def test_a_worker_hears_its_own_topics_only(brokers: Brokers) -> None:
    async with Workers() as workers:
        worker = await workers.start(brokers)
        brokers.announce(1, topic=brokers.other_topic)
        brokers.announce(2)
        await until(lambda: worker.claimed == [2])
        assert (brokers.other_topic, 1) not in worker.offered
        assert brokers.open().waiting(brokers.other_topic) == int(brokers.pushes), "it waits for whoever hears it"


@in_a_loop
async def test_a_worker_without_a_free_slot_is_offered_nothing_until_it_has_one(brokers: Brokers) -> None:
    async with Workers() as workers:
        worker = await workers.start(brokers, slots=1)
        brokers.announce(1)
        await until(lambda: worker.claimed == [1])
        brokers.announce(2, 3)
        await quiet()
        assert [item for _, item in worker.offered if item != 1] == []
        worker.give_slots(1)
        await until(lambda: len(worker.claimed) == 2)
        await quiet()
        assert len(worker.claimed) == 2, "no more than it has slots for"


@pytest.mark.parametrize("unable", [refuses, fails])
@in_a_loop
async def test_a_message_that_a_worker_cannot_take_reaches_another(
    brokers: Brokers, unable: Callable[[], bool]
) -> None:
    async with Workers() as workers:
        first = await workers.start(brokers, answer=unable)
        second = await workers.start(brokers, slots=0)
        brokers.announce(7)
        await until(lambda: first.offered or first.woken > 1)
        first.broker.set_free_slots(0)
        offered = len(first.offered)
        second.give_slots(1)
        await until(lambda: second.claimed == [7])
        assert (first.claimed, len(first.offered)) == ([], offered), "one that takes nothing is offered nothing"


@WITH_MESSAGES
@in_a_loop
async def test_a_refused_message_comes_back_to_the_only_worker_once_it_can(brokers: Brokers) -> None:
    answers = [False, True]
    async with Workers() as workers:
        worker = await workers.start(brokers, answer=lambda: answers.pop(0))
        await asyncio.to_thread(brokers.announce, 7)
        await until(lambda: worker.claimed == [7])
        assert worker.offered == [(brokers.topic, 7)] * 2


@in_a_loop
async def test_a_worker_that_has_stopped_hears_nothing_and_others_hear_all(brokers: Brokers) -> None:
    async with Workers() as workers:
        stopped = await workers.start(brokers)
        await stopped.broker.stop()
        woken = stopped.woken
        brokers.announce(1, 2, 3)
        other = await workers.start(brokers, slots=3)
        await until(lambda: sorted(other.claimed) == [1, 2, 3])
        await quiet()
        assert (stopped.claimed, stopped.offered, stopped.woken) == ([], [], woken)


@WITH_MESSAGES
@in_a_loop
async def test_stopping_waits_for_the_message_that_is_being_judged_and_settles_it(brokers: Brokers) -> None:
    """Else it would come again, and only after a while."""
    judging, judged, heard = asyncio.Event(), asyncio.Event(), []

    async def slow(_topic: str, body: bytes) -> bool:
        heard.append(body)
        judging.set()
        await judged.wait()
        return True

    broker = brokers.open()
    await broker.start([brokers.topic], slow, lambda: None)
    broker.set_free_slots(1)
    brokers.announce(7)
    await judging.wait()
    stopping = asyncio.create_task(broker.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    judged.set()
    await stopping
    async with Workers() as workers:
        other = await workers.start(brokers)
        await quiet()
        assert (heard, other.offered) == ([b"7"], [])


@in_a_loop
async def test_a_broker_that_was_never_started_stops_and_says_how_much_waits(brokers: Brokers) -> None:
    broker = brokers.open()
    assert broker.waiting(brokers.topic) == 0
    broker.publish(brokers.topic, *range(1, 8))
    assert broker.waiting(brokers.topic) in ({7} if brokers.pushes else {0})
    await broker.stop()


@WITH_A_SERVER
@in_a_loop
async def test_a_broker_that_is_down_says_so_and_what_it_could_not_announce_is_found_all_the_same(
    brokers: Brokers,
) -> None:
    assert brokers.open_down is not None
    down = brokers.open_down()
    with pytest.raises(BrokerUnavailable):
        brokers.announce(7, by=down)
    assert down.waiting(brokers.topic) == 0
    async with Workers() as workers:
        worker = await workers.start(brokers)
        await until(lambda: worker.claimed == [7])
