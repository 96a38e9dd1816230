"""Publishing and reading over a real nsqd: what one worker cannot take another gets."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dpn.broker import BrokerUnavailable, Subscription
from dpn.broker.nsq import NsqBroker
from dpn.broker.settings import BrokerSettings
from tests.fixtures.scripted.node import Nsqd, nsq_settings

NOBODY_LISTENS = "127.0.0.1:9"
PATIENCE_SECONDS = 15.0

_numbers = itertools.count(1)


@pytest.fixture
def topic() -> str:
    return f"broker_{os.getpid()}_{next(_numbers)}_topic"


def open_broker(entry: dict[str, Any], **changes: Any) -> NsqBroker:
    return NsqBroker(BrokerSettings(**{**nsq_settings(entry, static=True), **changes}), client_name="dpn/test")


class Worker:
    """One that answers each message as it is told, and remembers it."""

    def __init__(self, broker: NsqBroker, answer: Callable[[], bool]) -> None:
        self.broker = broker
        self.answer = answer
        self.heard: list[bytes] = []

    async def start(self, topic: str) -> Worker:
        await self.broker.start([Subscription(topic, "shared_channel")], self._offer, lambda: None)
        self.broker.set_free_slots(1)
        return self

    async def _offer(self, _topic: str, body: bytes) -> bool:
        self.heard.append(body)
        return self.answer()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def running(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def raises() -> bool:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("unable", [lambda: False, raises], ids=["has no slot", "fails"])
def test_a_message_that_a_worker_cannot_take_reaches_another(
    nsqd_entry: dict[str, Any], topic: str, unable: Callable[[], bool]
) -> None:
    async def test() -> None:
        first = await Worker(open_broker(nsqd_entry), unable).start(topic)
        first.broker.publish(topic, 7)
        await until(lambda: bool(first.heard))
        first.broker.set_free_slots(0)
        second = await Worker(open_broker(nsqd_entry), lambda: True).start(topic)
        await until(lambda: second.heard == [b"7"])
        await first.broker.stop()
        await second.broker.stop()
        assert first.heard == [b"7"], "one that takes nothing is offered nothing"

    running(test)


def test_a_worker_that_stops_answers_what_it_has_taken(nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str) -> None:
    """nsqd would give it to another only after its time-out."""

    async def test() -> None:
        judging, judged = asyncio.Event(), asyncio.Event()

        async def slow(_topic: str, _body: bytes) -> bool:
            judging.set()
            await judged.wait()
            return True

        broker = open_broker(nsqd_entry)
        await broker.start([Subscription(topic, "shared_channel")], slow, lambda: None)
        broker.set_free_slots(1)
        broker.publish(topic, 7)
        await judging.wait()
        stopping = asyncio.create_task(broker.stop())
        await asyncio.sleep(0)
        judged.set()
        await stopping
        await until(lambda: nsqd.channel(topic, "shared_channel")["in_flight_count"] == 0)
        assert nsqd.channel(topic, "shared_channel")["depth"] == 0

    running(test)


def test_many_items_are_published_at_once_and_each_is_a_message(
    nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str
) -> None:
    async def test() -> None:
        worker = await Worker(open_broker(nsqd_entry), lambda: True).start(topic)
        worker.broker.publish(topic, *range(1, 101))
        await until(lambda: len(worker.heard) == 100)
        await worker.broker.stop()
        assert sorted(int(body) for body in worker.heard) == list(range(1, 101))

    running(test)


def test_how_much_waits_is_known_from_the_first_message_on(
    nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str
) -> None:
    broker = open_broker(nsqd_entry)
    assert broker.waiting(topic) == 0
    broker.publish(topic, *range(1, 8))
    assert broker.waiting(topic) == 7
    nsqd.post("channel/create", topic=topic, channel="shared_channel")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while nsqd.channel(topic, "shared_channel")["depth"] != 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert broker.waiting(topic) == 7, "and it is the same once a channel has them"
    assert open_broker(nsqd_entry, nsqd_http_addresses=[NOBODY_LISTENS]).waiting(topic) == 0


def test_an_nsqd_that_is_down_is_passed_over_for_the_next(
    nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str
) -> None:
    broker = open_broker(nsqd_entry, nsqd_http_addresses=[NOBODY_LISTENS, nsqd_entry["http"]])
    broker.publish(topic, 1)
    assert nsqd.topic(topic)["message_count"] == 1


def test_without_any_nsqd_publishing_says_so(nsqd_entry: dict[str, Any]) -> None:
    broker = open_broker(nsqd_entry, nsqd_http_addresses=[NOBODY_LISTENS])
    with pytest.raises(BrokerUnavailable, match=NOBODY_LISTENS):
        broker.publish("any", 1)
