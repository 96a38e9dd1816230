"""NSQ: publishes over nsqd's HTTP, reads with pynsq from the nsqds that nsqlookupd names or that are given.

A queue is a topic with one channel. A message is finished as soon as the worker has claimed its item or knows it
to be of no use, so nsqd's own limits on a message's life never matter. pynsq's own give-up (`max_tries`) and its
reader-wide back-off are off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import urllib3

from dpn.broker import BrokerUnavailable, Offer
from dpn.broker.nsq_reader import SlotReader, quieten_pynsq
from dpn.broker.settings import NsqSettings

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 10.0
CONNECTIONS_KEPT = 8
MAX_TOLD_BYTES = 200
RECONNECT_SECONDS = 2.0
NAME_MAX_CHARACTERS = 64
"""Of a topic and of a channel, as nsqd takes them."""
HAND_OVER_AFTER_SECONDS = 1
"""How long a message rests that a worker had no slot for: another gets it then."""

log = logging.getLogger(__name__)


def channel_of(topic: str) -> str:
    """The channel that the workers of a stage share: one, be it on the stage's own topic or on a volume's."""
    return topic.partition(".")[0].removesuffix("_topic") + "_channel"


class NsqBroker:
    """See the module's docstring."""

    def __init__(self, settings: NsqSettings, *, client_name: str) -> None:
        self._settings = settings
        self._client_name = client_name
        # Not requests, which costs every worker at rest two megabytes more.
        self._http = urllib3.PoolManager(
            maxsize=CONNECTIONS_KEPT,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS),
            retries=False,
        )
        self._readers: list[SlotReader] = []
        self._free_slots = 0
        self._handling: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None

    def publish(self, queue: str, *item_ids: int) -> None:
        body = "\n".join(str(item_id) for item_id in item_ids).encode()
        problems = []
        for address in self._settings.nsqd_http_addresses:
            try:
                self._post(address, "pub" if len(item_ids) == 1 else "mpub", {"topic": queue}, body)
            except urllib3.exceptions.HTTPError as error:
                problems.append(f"{address}: {error}")
            else:
                return
        raise BrokerUnavailable("no nsqd took the message: " + "; ".join(problems))

    def waiting(self, queue: str) -> int:
        return sum(self._depth(address, queue) for address in self._settings.nsqd_http_addresses)

    async def start(self, queues: Sequence[str], offer: Offer, sweep_now: Callable[[], None]) -> None:
        quieten_pynsq()
        await asyncio.to_thread(self._create_channels, queues)
        self._readers = [self._reader(queue, offer) for queue in queues]
        self._connecting = asyncio.create_task(self._keep_connected())
        sweep_now()

    def set_free_slots(self, slots: int) -> None:
        self._free_slots = slots
        for reader in self._readers:
            reader.set_ready(slots > 0)

    async def stop(self) -> None:
        self.set_free_slots(0)
        if self._handling:
            await asyncio.wait(self._handling)
        if self._connecting is not None:
            self._connecting.cancel()
        for reader in self._readers:
            reader.close()

    def _reader(self, queue: str, offer: Offer) -> SlotReader:
        def handle(message: Any) -> None:
            message.enable_async()
            task = asyncio.ensure_future(_answer(message, queue, offer))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

        reader = SlotReader(
            queue,
            channel_of(queue),
            handle,
            nsqd_tcp_addresses=self._settings.nsqd_tcp_addresses,
            nsqlookupd_http_addresses=self._settings.nsqlookupd_http_addresses,
            client_name=self._client_name,
        )
        reader.set_ready(self._free_slots > 0)
        return reader

    async def _keep_connected(self) -> None:
        """pynsq looks for lost nsqds every 15 seconds, or, where it also looks them up, leaves given ones lost."""
        while True:
            await asyncio.sleep(RECONNECT_SECONDS)
            for reader in self._readers:
                reader.connect_to_given()

    def _create_channels(self, queues: Sequence[str]) -> None:
        """Makes topics and channels, so that nsqlookupd knows them before the first message; nsqd may be down."""
        for address in self._settings.nsqd_http_addresses:
            try:
                for queue in queues:
                    topic = {"topic": queue}
                    self._post(address, "topic/create", topic, b"")
                    self._post(address, "channel/create", {**topic, "channel": channel_of(queue)}, b"")
            except urllib3.exceptions.HTTPError as error:
                log.warning("nsqd %s: channels not made: %s", address, error)

    def _depth(self, address: str, topic: str) -> int:
        parameters = {"format": "json", "topic": topic, "include_clients": "false", "include_mem": "false"}
        try:
            stats = self._request("GET", address, "stats", parameters).json()
            queues = [queue for found in stats["topics"] for queue in (found, *(found["channels"] or ()))]
            return sum(int(queue["depth"]) for queue in queues)
        except (urllib3.exceptions.HTTPError, KeyError, TypeError, ValueError) as error:
            log.warning("nsqd %s: does not say how much waits: %s", address, error)
            return 0

    def _post(self, address: str, path: str, parameters: dict[str, str], body: bytes) -> None:
        self._request("POST", address, path, parameters, body)

    def _request(
        self, method: str, address: str, path: str, parameters: dict[str, str], body: bytes = b""
    ) -> urllib3.BaseHTTPResponse:
        url = f"http://{address}/{path}?{urlencode(parameters)}"
        response = self._http.request(method, url, body=body, redirect=False)
        if response.status != HTTPStatus.OK:
            raise urllib3.exceptions.HTTPError(f"HTTP {response.status}: {response.data[:MAX_TOLD_BYTES]!r}")
        return response


async def _answer(message: Any, queue: str, offer: Offer) -> None:
    try:
        done = await offer(queue, message.body)
    except Exception:
        log.exception("a message of %s could not be judged: it is given to another worker", queue)
        done = False
    if message.has_responded():
        return
    if done:
        message.finish()
    else:
        message.requeue(backoff=False, delay=HAND_OVER_AFTER_SECONDS)
