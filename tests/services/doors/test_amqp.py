"""Requests come in and replies go out over a real RabbitMQ: nothing is lost, and no connection dies of waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pika
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import OperationalError

from dpn.database import open_sessions, reading
from dpn.doors import keeper as keeper_module
from dpn.doors.amqp import AmqpDoor
from dpn.doors.keeper import DoorKeeper
from dpn.doors.reception import Reception
from dpn.doors.settings import AmqpDoorSettings
from dpn.work import outbox
from models.messages import OwedMessage, ReceivedMessage
from models.work import WorkItem
from tests.fixtures.scripted.bench import Bench
from tests.fixtures.scripted.node import eventually
from tests.services.doors.conftest import ToyIntake

PATIENCE_SECONDS = 60.0


@pytest.fixture
def bench(sqlite_engine: Engine) -> Bench:
    """One database: what rows are written is tested on both."""
    return Bench(open_sessions(sqlite_engine))


@pytest.fixture
def settings(rabbitmq: dict[str, Any]) -> AmqpDoorSettings:
    """Two queues that nobody has made yet."""
    name = uuid4().hex
    return AmqpDoorSettings(
        kind="amqp",
        url=SecretStr(rabbitmq["url"]),
        incoming=f"in-{name}",
        outgoing=f"out-{name}",
        heartbeat_seconds=2,
    )


@pytest.fixture
def channel(settings: AmqpDoorSettings) -> Iterator[Any]:
    """A client's."""
    connection = pika.BlockingConnection(pika.URLParameters(settings.address()))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@contextmanager
def kept(bench: Bench, intake: ToyIntake, settings: AmqpDoorSettings) -> Iterator[DoorKeeper]:
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda _logger, _name, event: str(event)])
    door = AmqpDoor("medusa", settings, client_name="test")
    keeper = DoorKeeper(door, intake, sessions=bench.sessions, clock=bench.clock, log=log)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


@pytest.fixture
def door(bench: Bench, intake: ToyIntake, settings: AmqpDoorSettings, channel: Any) -> Iterator[DoorKeeper]:
    """Running, on a queue that it has made."""
    with kept(bench, intake, settings) as keeper:
        eventually(lambda: keeper.state().depth is not None, within=PATIENCE_SECONDS)
        yield keeper


def publish(channel: Any, queue: str, *bodies: str) -> None:
    channel.queue_declare(queue, durable=True)
    for body in bodies:
        channel.basic_publish("", queue, body.encode())


def depth(channel: Any, queue: str | None) -> int:
    return int(channel.queue_declare(queue, durable=True).method.message_count)


def count(bench: Bench, *where: Any) -> int:
    with reading(bench.sessions) as session:
        return session.scalar(select(func.count()).where(*where)) or 0


def settled(bench: Bench) -> int:
    return count(bench, ReceivedMessage.settled_at.is_not(None))


def items(bench: Bench) -> int:
    return count(bench, WorkItem.id > 0)


def test_each_request_becomes_an_item_and_leaves_the_queue_and_a_refusal_is_answered(
    bench: Bench, door: DoorKeeper, channel: Any, settings: AmqpDoorSettings
) -> None:
    publish(channel, settings.incoming, '"a"', '"a"', "no JSON")
    eventually(lambda: settled(bench) == 3, within=PATIENCE_SECONDS)
    assert items(bench) == 2
    eventually(lambda: depth(channel, settings.outgoing) == 1, within=PATIENCE_SECONDS)
    _method, properties, body = channel.basic_get(settings.outgoing, auto_ack=True)
    assert (body, properties.delivery_mode) == (b"not JSON", 2)
    assert depth(channel, settings.incoming) == 0


def test_what_was_not_acknowledged_comes_again_and_is_the_same_request(
    bench: Bench, intake: ToyIntake, channel: Any, settings: AmqpDoorSettings
) -> None:
    publish(channel, settings.incoming, '"a"', '"b"')
    with kept(bench, intake, settings) as keeper:
        eventually(lambda: settled(bench) == 2, within=PATIENCE_SECONDS)
        keeper.halt()
    with bench.sessions.begin() as session:  # as if it had been killed before the acknowledgement
        for row in session.scalars(select(ReceivedMessage)):
            row.settled_at = None
    publish(channel, settings.incoming, '"a"')
    channel.basic_get(settings.incoming)
    channel.connection.close()  # it goes back, marked as redelivered
    with kept(bench, intake, settings):
        eventually(lambda: settled(bench) == 1, within=PATIENCE_SECONDS)
    assert items(bench) == 2


def test_a_queue_that_is_deleted_is_made_anew_and_a_reset_connection_found_again(
    bench: Bench, door: DoorKeeper, channel: Any, settings: AmqpDoorSettings
) -> None:
    channel.queue_delete(settings.incoming)
    eventually(lambda: "was deleted" in door.state().state, within=PATIENCE_SECONDS)
    publish(channel, settings.incoming, '"a"')
    eventually(lambda: settled(bench) == 1, within=PATIENCE_SECONDS)
    assert door.state().state == "open"


def test_a_connection_survives_a_database_that_is_away_for_longer_than_its_heartbeats(
    bench: Bench, door: DoorKeeper, channel: Any, settings: AmqpDoorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = threading.Event()
    is_away.set()
    receive = keeper_module.receive
    tries: list[None] = []

    def away(*arguments: Any, **named: Any) -> Reception:
        if is_away.is_set():
            tries.append(None)
            raise OperationalError("INSERT", None, Exception("server closed the connection"))
        return receive(*arguments, **named)

    monkeypatch.setattr(keeper_module, "receive", away)
    publish(channel, settings.incoming, '"a"')
    eventually(lambda: len(tries) > 2.5 * settings.heartbeat_seconds, within=PATIENCE_SECONDS)
    assert "server closed the connection" in door.state().state
    is_away.clear()
    eventually(lambda: settled(bench) == 1, within=PATIENCE_SECONDS)
    with reading(bench.sessions) as session:
        assert session.scalars(select(ReceivedMessage.received_at == ReceivedMessage.delivered_at)).one()


def test_a_halted_door_gives_back_what_it_has_not_taken_yet(
    bench: Bench, door: DoorKeeper, channel: Any, settings: AmqpDoorSettings
) -> None:
    door.halt()
    publish(channel, settings.incoming, '"a"')
    with bench.sessions.begin() as session:
        outbox.owe(session, key="1", destination="door:medusa", body="r", item_id=None, clock=bench.clock)
    door.send_now()
    eventually(lambda: depth(channel, settings.outgoing) == 1, within=PATIENCE_SECONDS)
    eventually(lambda: depth(channel, settings.incoming) == 1, within=PATIENCE_SECONDS)
    assert (items(bench), door.state().state) == (0, "halted")
    door.resume()
    eventually(lambda: settled(bench) == 1, within=PATIENCE_SECONDS)


def test_a_reply_queue_that_is_full_or_gone_loses_no_reply(
    bench: Bench, door: DoorKeeper, channel: Any, settings: AmqpDoorSettings
) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(settings.outgoing, durable=True, arguments=arguments)
    with bench.sessions.begin() as session:
        for key in ("1", "2"):
            outbox.owe(session, key=key, destination="door:medusa", body=key, item_id=None, clock=bench.clock)
    door.send_now()

    def refused() -> bool:
        with reading(bench.sessions) as session:
            return any("refused" in error for error in session.scalars(select(OwedMessage.last_error)))

    eventually(refused, within=PATIENCE_SECONDS)
    channel.queue_delete(settings.outgoing)

    def both_sent() -> bool:
        bench.clock.advance(1)
        door.send_now()
        return count(bench, OwedMessage.sent_at.is_not(None)) == 2

    eventually(both_sent, within=PATIENCE_SECONDS)
    assert depth(channel, settings.outgoing) == 1


def test_a_fault_of_ours_ends_no_door_for_good(
    bench: Bench, door: DoorKeeper, channel: Any, settings: AmqpDoorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, tries = keeper_module.receive, iter([True])

    def fails(*arguments: Any, **named: Any) -> Reception:
        if next(tries, False):
            raise ZeroDivisionError("a bug")
        return receive(*arguments, **named)

    monkeypatch.setattr(keeper_module, "receive", fails)
    publish(channel, settings.incoming, '"a"')
    eventually(lambda: "a bug" in door.state().state, within=PATIENCE_SECONDS)
    eventually(lambda: settled(bench) == 1, within=PATIENCE_SECONDS)
    assert (items(bench), door.state().state) == (1, "open")
