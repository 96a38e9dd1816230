"""A broker within one process, for tests and the simulator: at least once, in order, the same every time.

Nothing is lost, repeated or late unless `fate` says so. What a worker took and never settled, because it is gone,
another one gets after `HOLD_SECONDS`, as from nsqd. Time is the clock's; one that is moved by hand is looked at
with the next message or free slot.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dpn.broker import BrokerUnavailable, Offer
from dpn.clock import Clock

HOLD_SECONDS = 60.0
"""How long a worker may take to settle a message."""
HAND_OVER_AFTER_SECONDS = 1.0
"""How long a message rests that a worker could not take."""

log = logging.getLogger(__name__)

Fate = Callable[[str, int], Sequence[float]]
"""After how many seconds each copy of the message of a queue and an item is delivered; without any it is lost."""


def at_once(_queue: str, _item_id: int) -> Sequence[float]:
    """One copy, without delay: the fate of a message where nothing goes wrong."""
    return (0.0,)


@dataclass(eq=False)
class Message:
    """One copy of an announcement. `due`: from when on a worker may take it, by the clock's monotonic time."""

    queue: str
    item_id: int
    due: float
    held: bool = False


class MemoryQueues:
    """What the brokers of one node share: each message goes to one worker that hears its queue."""

    def __init__(self, clock: Clock, *, fate: Fate = at_once) -> None:
        self.fate = fate
        self.down = False
        """Whether publishing fails."""
        self.listeners: list[Callable[[], None]] = []
        """Called after each change, from whatever thread makes it."""
        self._clock = clock
        self._lock = threading.Lock()
        self._messages: list[Message] = []

    def publish(self, queue: str, *item_ids: int) -> None:
        """Raises BrokerUnavailable while the queues are down."""
        if self.down:
            raise BrokerUnavailable("the queues in memory are down")
        now = self._clock.monotonic()
        copies = [(item_id, now + delay) for item_id in item_ids for delay in self.fate(queue, item_id)]
        with self._lock:
            self._messages += [Message(queue, item_id, due) for item_id, due in copies]
        self._tell()

    def take(self, queues: Collection[str]) -> Message | None:
        """The oldest message of these queues that is due: held until it is settled or put back."""
        now = self._clock.monotonic()
        with self._lock:
            found = next((one for one in self._messages if one.queue in queues and one.due <= now), None)
            if found is not None:
                found.held, found.due = True, now + HOLD_SECONDS
        return found

    def settle(self, message: Message) -> None:
        """The message is done with."""
        with self._lock, suppress(ValueError):  # held for too long, it may have been settled by another
            self._messages.remove(message)

    def put_back(self, message: Message) -> None:
        """Another worker is to have the message, or the same one later."""
        with self._lock:
            message.held, message.due = False, self._clock.monotonic() + HAND_OVER_AFTER_SECONDS
        self._tell()

    def waiting(self) -> list[tuple[str, int]]:
        """Topic and item of each message that no worker holds, oldest first."""
        with self._lock:
            return [(one.queue, one.item_id) for one in self._messages if not one.held]

    def seconds_to_next(self, queues: Collection[str]) -> float | None:
        """How long until a message of these queues is due, as things stand; None if there is none."""
        with self._lock:
            due = min((one.due for one in self._messages if one.queue in queues), default=None)
        return None if due is None else max(0.0, due - self._clock.monotonic())

    def _tell(self) -> None:
        for heard in list(self.listeners):
            heard()


class MemoryBroker:
    """One worker's broker, on queues that it shares with others in the same process."""

    def __init__(self, queues: MemoryQueues) -> None:
        self._queues = queues
        self._hears: frozenset[str] = frozenset()
        self._free_slots = 0
        self._stopping = False
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._delivering: asyncio.Task[None] | None = None

    def publish(self, queue: str, *item_ids: int) -> None:
        self._queues.publish(queue, *item_ids)

    def waiting(self, queue: str) -> int:
        return sum(queue == of for of, _ in self._queues.waiting())

    async def start(self, queues: Sequence[str], offer: Offer, sweep_now: Callable[[], None]) -> None:
        self._hears = frozenset(queues)
        self._loop = asyncio.get_running_loop()
        self._queues.listeners.append(self._heard)
        self._delivering = asyncio.create_task(self._deliver(offer))
        sweep_now()

    def set_free_slots(self, slots: int) -> None:
        self._free_slots = slots
        self._changed.set()

    async def stop(self) -> None:
        self._stopping = True
        self._changed.set()
        if self._delivering is not None:
            await self._delivering
        with suppress(ValueError):  # never started, or stopped before
            self._queues.listeners.remove(self._heard)

    def _heard(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _deliver(self, offer: Offer) -> None:
        """One message after the other while there is a free slot."""
        while not self._stopping:
            self._changed.clear()
            ready = self._free_slots > 0
            if ready and (message := self._queues.take(self._hears)) is not None:
                await self._offer(message, offer)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._queues.seconds_to_next(self._hears) if ready else None):
                    await self._changed.wait()

    async def _offer(self, message: Message, offer: Offer) -> None:
        try:
            done = await offer(message.queue, str(message.item_id).encode())
        except Exception:
            log.exception("a message of %s could not be judged: another worker gets it", message.queue)
            done = False
        if done:
            self._queues.settle(message)
        else:
            self._queues.put_back(message)
