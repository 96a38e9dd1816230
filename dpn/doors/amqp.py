"""A door to a server that speaks AMQP 0-9-1, such as RabbitMQ: each message acknowledged once it is ours.

The thread that serves never waits for the database: the server would take two missed heartbeats for a death. A
second one makes rows of what came. AMQP gives no id that stays, so a repetition is known by its redelivery.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pika
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    ChannelWrongStateError,
    ConnectionWrongStateError,
    NackError,
    UnroutableError,
)

from dpn.doors.door import Gate, Receive, Settled
from dpn.doors.reception import Incoming, Reception
from dpn.doors.settings import AmqpDoorSettings
from dpn.errors import Misconfigured, ServiceUnavailable, TransientError

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

LOOK_SECONDS = 0.5
"""How long the thread that serves waits for the server before it looks at the gate."""
DEPTH_SECONDS = 10.0
CONNECT_SECONDS = 10
BLOCKED_SECONDS = 60
"""How long a server that is short of memory or disk may hold a connection that wants to publish."""
NOT_FOUND = 404
PERSISTENT = pika.BasicProperties(delivery_mode=2)


@dataclass(frozen=True)
class _Delivery:
    channel: BlockingChannel
    tag: int
    incoming: Incoming


class AmqpDoor:
    """See the module's docstring."""

    def __init__(self, name: str, settings: AmqpDoorSettings, *, client_name: str) -> None:
        self.name = name
        self.destination = f"door:{name}"
        self.answers = settings.outgoing is not None
        self._settings = settings
        self._client_name = client_name
        self._depth: int | None = None
        self._sending: BlockingConnection | None = None
        self._out: BlockingChannel | None = None

    # -- in ------------------------------------------------------------------------------------------------------

    def serve(self, receive: Receive, settled: Settled, gate: Gate) -> None:
        with self._connected("requests") as connection, self._unavailable():
            _Service(self, connection, receive, settled, gate).run()

    def depth(self) -> int | None:
        return self._depth

    # -- out -----------------------------------------------------------------------------------------------------

    def send(self, body: str) -> None:
        outgoing = self._settings.outgoing
        if outgoing is None:
            raise TransientError(f"door {self.name} has no outgoing queue: name one, or withdraw what is owed")
        try:
            with self._unavailable():
                self._channel_out().basic_publish("", outgoing, body.encode(), PERSISTENT, mandatory=True)
        except UnroutableError as error:
            self.close()  # which makes the queue anew
            raise TransientError(f"{self.destination}: there is no queue {outgoing}") from error
        except NackError as error:
            raise TransientError(f"{self.destination}: the server refused it: is {outgoing} full?") from error
        except ServiceUnavailable:
            self.close()
            raise

    def rest(self) -> None:
        if self._sending is not None:
            try:
                with self._unavailable():
                    self._sending.process_data_events(0)
            except ServiceUnavailable:
                self.close()  # opened again when there is something to send

    def close(self) -> None:
        connection, self._sending, self._out = self._sending, None, None
        if connection is not None:
            with suppress(AMQPError, OSError):
                connection.close()

    def _channel_out(self) -> BlockingChannel:
        if self._out is None or not self._out.is_open:
            self.close()
            self._sending = self._connect("replies")
            self._out = self._sending.channel()
            assert self._settings.outgoing is not None  # noqa: S101  (asked before)
            self._out = self.with_queue(self._sending, self._out, self._settings.outgoing)
            self._out.confirm_delivery()
        return self._out

    # -- both ----------------------------------------------------------------------------------------------------

    def with_queue(self, connection: BlockingConnection, channel: BlockingChannel, name: str) -> BlockingChannel:
        """A channel, in place of this one if need be, on a connection to a server that has the queue: made durable
        if it was missing, left as it is otherwise."""
        try:
            self._note_depth(name, channel.queue_declare(name, passive=True))
        except ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            channel = connection.channel()
            self._note_depth(name, channel.queue_declare(name, durable=True))
        return channel

    def look_at_depth(self, channel: BlockingChannel) -> None:
        self._note_depth(self._settings.incoming, channel.queue_declare(self._settings.incoming, passive=True))

    def _note_depth(self, name: str, answer: Any) -> None:
        if name == self._settings.incoming:
            self._depth = int(answer.method.message_count)

    @property
    def incoming(self) -> str:
        return self._settings.incoming

    @property
    def prefetch(self) -> int:
        return self._settings.prefetch

    @contextmanager
    def _connected(self, what: str) -> Iterator[BlockingConnection]:
        connection = self._connect(what)
        try:
            yield connection
        finally:
            with suppress(AMQPError, OSError):
                connection.close()

    def _connect(self, what: str) -> BlockingConnection:
        with self._unavailable():
            return pika.BlockingConnection(self._parameters(what))

    def _parameters(self, what: str) -> pika.ConnectionParameters:
        settings = self._settings
        try:
            parameters = pika.URLParameters(settings.address())
        except (ValueError, TypeError, AttributeError, KeyError):  # whose text may repeat the password
            raise Misconfigured(
                f"doors.{self.name}: url is no address such as amqp://USER:PASSWORD@HOST:5672/VHOST"
            ) from None
        parameters.heartbeat = settings.heartbeat_seconds
        parameters.socket_timeout = CONNECT_SECONDS
        parameters.stack_timeout = 2 * CONNECT_SECONDS
        parameters.blocked_connection_timeout = BLOCKED_SECONDS
        parameters.client_properties = {"connection_name": f"{self._client_name} {self.name} {what}"}
        if parameters.ssl_options is not None:
            context = ssl.create_default_context(cafile=settings.ca_file)
            if settings.client_cert_file is not None:
                context.load_cert_chain(settings.client_cert_file, settings.client_key_file)
            parameters.ssl_options = pika.SSLOptions(context, parameters.host)
        return parameters

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Whatever the connection ends with is a cause outside."""
        try:
            yield
        except (UnroutableError, NackError):
            raise
        except AMQPConnectionError as error:
            raise ServiceUnavailable(self.destination, _reason(error)) from error
        except (AMQPError, OSError) as error:
            raise ServiceUnavailable(self.destination, _reason(error)) from error


class _Service:
    """One connection's life: two threads, of which only one may touch the connection."""

    def __init__(
        self, door: AmqpDoor, connection: BlockingConnection, receive: Receive, settled: Settled, gate: Gate
    ) -> None:
        self._door = door
        self._connection = connection
        self._receive = receive
        self._settled = settled
        self._gate = gate
        self._inbox: queue.SimpleQueue[_Delivery | Reception | None] = queue.SimpleQueue()
        """What came, what has been acknowledged since, and None at the end."""
        self._over = threading.Event()
        self._deleted = False
        self._failure: Exception | None = None
        """What ended the thread that receives."""
        self._consumer: str | None = None

    def run(self) -> None:
        channel = self._door.with_queue(self._connection, self._connection.channel(), self._door.incoming)
        channel.basic_qos(prefetch_count=self._door.prefetch)
        channel.add_on_cancel_callback(self._note_deleted)
        receiving = threading.Thread(target=self._take, name=f"door {self._door.name} receives", daemon=True)
        receiving.start()
        look_at = time.monotonic() + DEPTH_SECONDS
        try:
            while not self._gate.is_closed:
                self._follow_the_gate(channel)
                self._connection.process_data_events(LOOK_SECONDS)
                if self._failure is not None:
                    raise self._failure
                if self._deleted:
                    reason = f"queue {self._door.incoming} was deleted: it is made anew"
                    raise ServiceUnavailable(self._door.destination, reason)
                if time.monotonic() >= look_at:
                    self._door.look_at_depth(channel)
                    look_at = time.monotonic() + DEPTH_SECONDS
        finally:
            self._over.set()
            self._inbox.put(None)
            self._end(receiving)

    def _end(self, receiving: threading.Thread) -> None:
        """What is being received is still acknowledged, if the connection lives."""
        while receiving.is_alive():
            self._work_off()
            receiving.join(LOOK_SECONDS / 10)
        self._work_off()
        with suppress(queue.Empty):
            while True:
                if isinstance(found := self._inbox.get_nowait(), Reception):
                    self._settled([found.id])

    def _work_off(self) -> None:
        with suppress(AMQPError, OSError):
            if self._connection.is_open:
                self._connection.process_data_events(0)

    def _follow_the_gate(self, channel: BlockingChannel) -> None:
        if self._gate.is_open and self._consumer is None:
            self._consumer = channel.basic_consume(self._door.incoming, self._deliver)
        elif not self._gate.is_open and self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            channel.basic_cancel(consumer)

    def _deliver(self, channel: BlockingChannel, method: Any, _properties: Any, body: bytes) -> None:
        incoming = Incoming(body, redelivered=bool(method.redelivered))
        self._inbox.put(_Delivery(channel, method.delivery_tag, incoming))

    def _note_deleted(self, _: Any) -> None:
        self._deleted = True

    def _answer(self, delivery: _Delivery, received: Reception | None) -> None:
        with suppress(ChannelWrongStateError):
            if received is None:
                delivery.channel.basic_nack(delivery.tag, requeue=True)
            else:
                delivery.channel.basic_ack(delivery.tag)
                self._inbox.put(received)

    # -- in the second thread ------------------------------------------------------------------------------------

    def _take(self) -> None:
        try:
            self._take_all()
        except Exception as error:  # noqa: BLE001  (raised where it is seen: in the thread that serves)
            self._failure = error

    def _take_all(self) -> None:
        while (found := self._inbox.get()) is not None:
            if isinstance(found, Reception):
                self._settled([found.id])
            elif not self._over.is_set() and found.channel.is_open:  # else the server delivers it again
                received = self._receive(found.incoming)
                with suppress(ConnectionWrongStateError):
                    self._connection.add_callback_threadsafe(partial(self._answer, found, received))


def _reason(error: BaseException) -> str:
    """In words: pika's errors often carry theirs in what they were raised from."""
    cause = error.__cause__ or (error.args[0] if error.args and isinstance(error.args[0], BaseException) else None)
    text = str(error) or repr(error)
    return text if cause is None or str(cause) in text else f"{text}: {cause}"
