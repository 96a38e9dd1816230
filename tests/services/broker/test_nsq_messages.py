"""What of publishing and reading is nsqd's alone; what every broker promises is in test_contract."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from dpn.broker.nsq import NsqBroker, channel_of
from dpn.broker.settings import NsqSettings
from tests.fixtures.scripted.node import Nsqd, nsq_settings

NOBODY_LISTENS = "127.0.0.1:9"
PATIENCE_SECONDS = 15.0

_numbers = itertools.count(1)


@pytest.fixture
def topic() -> str:
    return f"broker_{os.getpid()}_{next(_numbers)}_topic"


def open_broker(entry: dict[str, Any], **changes: Any) -> NsqBroker:
    settings = NsqSettings(**nsq_settings(entry, static=True)["nsq"] | changes)
    return NsqBroker(settings, client_name="dpn/test")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_worker_that_stops_answers_what_it_has_taken(nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str) -> None:
    """nsqd would give it to another only after its time-out."""

    async def test() -> None:
        judging, judged = asyncio.Event(), asyncio.Event()

        async def slow(_topic: str, _body: bytes) -> bool:
            judging.set()
            await judged.wait()
            return True

        broker = open_broker(nsqd_entry)
        await broker.start([topic], slow, lambda: None)
        broker.set_free_slots(1)
        broker.publish(topic, 7)
        await judging.wait()
        stopping = asyncio.create_task(broker.stop())
        await asyncio.sleep(0)
        judged.set()
        await stopping
        await until(lambda: nsqd.channel(topic, channel_of(topic))["in_flight_count"] == 0)
        assert nsqd.channel(topic, channel_of(topic))["depth"] == 0

    asyncio.run(test())


def test_how_much_waits_is_known_from_the_first_message_on(
    nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str
) -> None:
    broker = open_broker(nsqd_entry)
    assert broker.waiting(topic) == 0
    broker.publish(topic, *range(1, 8))
    assert broker.waiting(topic) == 7
    nsqd.post("channel/create", topic=topic, channel=channel_of(topic))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while nsqd.channel(topic, channel_of(topic))["depth"] != 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert broker.waiting(topic) == 7, "and it is the same once a channel has them"
    assert open_broker(nsqd_entry, nsqd_http_addresses=[NOBODY_LISTENS]).waiting(topic) == 0


def test_an_nsqd_that_is_down_is_passed_over_for_the_next(
    nsqd_entry: dict[str, Any], nsqd: Nsqd, topic: str
) -> None:
    broker = open_broker(nsqd_entry, nsqd_http_addresses=[NOBODY_LISTENS, nsqd_entry["http"]])
    broker.publish(topic, 1)
    assert nsqd.topic(topic)["message_count"] == 1
