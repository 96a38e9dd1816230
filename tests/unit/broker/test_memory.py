"""The broker in memory does what nsqd does, and misbehaves only when told to: for tests and the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from dpn.broker import BrokerUnavailable
from dpn.broker.memory import HAND_OVER_AFTER_SECONDS, HOLD_SECONDS, MemoryBroker, MemoryQueues
from dpn.clock import ManualClock

TOPICS = ("copy", "store")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queues(clock: ManualClock) -> MemoryQueues:
    return MemoryQueues(clock)


def take(queues: MemoryQueues, *topics: str) -> int | None:
    message = queues.take(topics or TOPICS)
    return None if message is None else message.item_id


def test_messages_are_taken_in_the_order_in_which_they_were_published_whatever_their_topic(
    queues: MemoryQueues,
) -> None:
    queues.publish("copy", 3, 1)
    queues.publish("store", 2)
    queues.publish("copy", 4)
    assert [take(queues) for _ in range(5)] == [3, 1, 2, 4, None]


def test_a_message_is_held_by_who_took_it_and_comes_back_only_if_that_one_is_gone(
    queues: MemoryQueues, clock: ManualClock
) -> None:
    queues.publish("copy", 1)
    queues.publish("copy", 2)
    settled, lost = queues.take(TOPICS), queues.take(TOPICS)
    assert settled is not None
    queues.settle(settled)
    clock.advance(HOLD_SECONDS - 1)
    assert take(queues) is None
    clock.advance(1)
    again = queues.take(TOPICS)
    assert again is lost is not None
    queues.settle(again)
    queues.settle(lost)  # by whoever was thought to be gone
    clock.advance(HOLD_SECONDS)
    assert take(queues) is None


def test_what_is_put_back_rests_for_a_moment_and_then_comes_before_what_is_newer(
    queues: MemoryQueues, clock: ManualClock
) -> None:
    queues.publish("copy", 1, 2)
    message = queues.take(TOPICS)
    assert message is not None
    assert queues.waiting() == [("copy", 2)]
    queues.put_back(message)
    assert queues.waiting() == [("copy", 1), ("copy", 2)]
    assert take(queues) == 2
    assert queues.seconds_to_next(TOPICS) == HAND_OVER_AFTER_SECONDS
    clock.advance(HAND_OVER_AFTER_SECONDS)
    queues.publish("copy", 3)
    assert [take(queues), take(queues)] == [1, 3]


@pytest.mark.parametrize(
    ("fate", "after_no_time", "after_five_seconds"),
    [((), [], []), ((0.0, 0.0), [7, 7], []), ((5.0,), [], [7]), ((0.0, 5.0), [7], [7])],
    ids=["lost", "repeated", "delayed", "repeated later"],
)
def test_a_message_is_lost_repeated_or_late_if_its_fate_says_so(
    queues: MemoryQueues,
    clock: ManualClock,
    fate: Sequence[float],
    after_no_time: list[int],
    after_five_seconds: list[int],
) -> None:
    queues.fate = lambda topic, item_id: fate if (topic, item_id) == ("copy", 7) else (0.0,)
    queues.publish("copy", 7)
    assert _all(queues) == after_no_time
    clock.advance(4.9)
    assert _all(queues) == []
    clock.advance(0.2)
    assert _all(queues) == after_five_seconds
    queues.publish("store", 7)
    assert _all(queues) == [7]


def test_while_the_queues_are_down_nothing_is_published_and_nothing_is_lost_that_was(queues: MemoryQueues) -> None:
    queues.publish("copy", 1)
    queues.down = True
    with pytest.raises(BrokerUnavailable):
        queues.publish("copy", 2)
    queues.down = False
    assert _all(queues) == [1]


def test_two_runs_give_the_same_messages_to_the_same_workers() -> None:
    assert asyncio.run(_run()) == asyncio.run(_run())


async def _run() -> list[tuple[str, str, int]]:
    """Three workers, one of which refuses every other message, and a fate with a pattern."""
    clock, trace = ManualClock(), []
    queues = MemoryQueues(clock, fate=lambda _topic, item_id: (0.0,) * (item_id % 3))
    brokers = {name: MemoryBroker(queues) for name in "abc"}
    for name, broker in brokers.items():

        async def offer(topic: str, body: bytes, name: str = name) -> bool:
            trace.append((name, topic, int(body)))
            await asyncio.sleep(0)
            return name != "b" or int(body) % 2 == 0

        await broker.start(TOPICS, offer, lambda: None)
        broker.set_free_slots(2)
    for item_id in range(30):
        brokers["a"].publish(TOPICS[item_id % 2], item_id)
        await asyncio.sleep(0)
    while queues.seconds_to_next(TOPICS) is not None:
        clock.advance(HAND_OVER_AFTER_SECONDS)
        brokers["c"].set_free_slots(2)
        await asyncio.sleep(0)
    for broker in brokers.values():
        await broker.stop()
    assert {item_id for _, _, item_id in trace} == {item_id for item_id in range(30) if item_id % 3}
    return trace


def _all(queues: MemoryQueues) -> list[int]:
    """Takes and settles what is due."""
    found = []
    while (message := queues.take(TOPICS)) is not None:
        queues.settle(message)
        found.append(message.item_id)
    return found
