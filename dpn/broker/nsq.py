"""NSQ: publishes over nsqd's HTTP, reads with pynsq from the nsqds that nsqlookupd names or that are given.

A message is finished as soon as the worker has claimed its item or knows it to be of no use, so nsqd's own limits
on a message's life never matter. pynsq's own give-up (`max_tries`) and its reader-wide back-off are off.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import nsq
import requests

from dpn.broker import BrokerUnavailable, Offer, Subscription
from dpn.settings import BrokerSettings

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 10.0
LOOKUP_EVERY_SECONDS = 10
HAND_OVER_AFTER_SECONDS = 1
"""How long a message rests that a worker had no slot for: another gets it then."""


class NsqBroker:
    """See the module's docstring."""

    def __init__(self, settings: BrokerSettings, *, client_name: str) -> None:
        self._settings = settings
        self._client_name = client_name
        self._sessions = threading.local()
        self._readers: list[nsq.Reader] = []
        self._free_slots = 0
        self._handling: set[asyncio.Task[None]] = set()
        # Lost connections are part of life here and pynsq finds its way back: not errors to an operator.
        logging.getLogger("nsq").setLevel(logging.CRITICAL)

    def publish(self, topic: str, item_id: int) -> None:
        problems = []
        for address in self._settings.nsqd_http_addresses:
            try:
                self._post(address, "pub", {"topic": topic}, str(item_id).encode())
            except requests.RequestException as error:
                problems.append(f"{address}: {error}")
            else:
                return
        raise BrokerUnavailable("no nsqd took the message: " + "; ".join(problems))

    async def start(
        self, subscriptions: Sequence[Subscription], offer: Offer, sweep_now: Callable[[], None]
    ) -> None:
        await asyncio.to_thread(self._create_channels, subscriptions)
        self._readers = [self._reader(subscription, offer) for subscription in subscriptions]
        sweep_now()

    def set_free_slots(self, slots: int) -> None:
        if slots == self._free_slots:
            return
        self._free_slots = slots
        for reader in self._readers:
            reader.set_max_in_flight(slots)

    async def stop(self) -> None:
        for reader in self._readers:
            reader.set_max_in_flight(0)
        if self._handling:
            await asyncio.wait(self._handling)
        for reader in self._readers:
            reader.close()

    def _reader(self, subscription: Subscription, offer: Offer) -> nsq.Reader:
        def handle(message: Any) -> None:
            message.enable_async()
            task = asyncio.ensure_future(self._answer(message, subscription.topic, offer))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

        reader = nsq.Reader(
            topic=subscription.topic,
            channel=subscription.channel,
            message_handler=handle,
            nsqd_tcp_addresses=list(self._settings.nsqd_tcp_addresses),
            lookupd_http_addresses=list(self._settings.nsqlookupd_http_addresses),
            lookupd_poll_interval=LOOKUP_EVERY_SECONDS,
            max_tries=0,
            max_in_flight=max(1, self._free_slots),
            user_agent=self._client_name,
        )
        if not self._free_slots:
            reader.set_max_in_flight(0)
        return reader

    async def _answer(self, message: Any, topic: str, offer: Offer) -> None:
        done = await offer(topic, message.body)
        if message.has_responded():
            return
        if done:
            message.finish()
        else:
            message.requeue(backoff=False, delay=HAND_OVER_AFTER_SECONDS)

    def _create_channels(self, subscriptions: Sequence[Subscription]) -> None:
        """Makes topics and channels, so that nsqlookupd knows them before the first message; nsqd may be down."""
        for address in self._settings.nsqd_http_addresses:
            try:
                for subscription in subscriptions:
                    topic = {"topic": subscription.topic}
                    self._post(address, "topic/create", topic, b"")
                    self._post(address, "channel/create", {**topic, "channel": subscription.channel}, b"")
            except requests.RequestException as error:
                logging.getLogger(__name__).warning("nsqd %s: channels not made: %s", address, error)

    def _post(self, address: str, path: str, parameters: dict[str, str], body: bytes) -> None:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
            self._sessions.session.trust_env = False
        response = self._sessions.session.post(
            f"http://{address}/{path}",
            params=parameters,
            data=body,
            timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
        )
        response.raise_for_status()
