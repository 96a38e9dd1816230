"""How an item's id reaches a worker. A message is a wake-up call: it may be lost, doubled or late without harm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from dpn.errors import DpnError


class BrokerUnavailable(DpnError):
    """No message could be published: nothing is lost, the intent stays and the sweep finds the item meanwhile."""


Offer = Callable[[str, bytes], Awaitable[bool]]
"""Hands a message (queue, body) to the worker. False: it has no free slot or no database, give it to another."""


class Broker(Protocol):
    """Publishes from any thread; consumes on the event loop that called `start`."""

    def publish(self, queue: str, *item_ids: int) -> None:
        """Announces items, all or none of them. Raises BrokerUnavailable."""
        ...

    def waiting(self, queue: str) -> int:
        """How many messages of the queue wait for a worker, as far as the broker knows; 0 if it cannot say."""
        ...

    async def start(self, queues: Sequence[str], offer: Offer, sweep_now: Callable[[], None]) -> None:
        """Begins to consume: of all workers that hear a queue, one is offered each of its messages.

        `sweep_now` is called when something is due but the broker does not know what.
        """
        ...

    def set_free_slots(self, slots: int) -> None:
        """How many more items the worker could run now: with none, no message is taken."""
        ...

    async def stop(self) -> None:
        """Takes no more messages; what was taken and not offered goes to another worker."""
        ...
