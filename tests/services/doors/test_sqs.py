"""Requests come in and replies go out over SQS: each request once, each reply at least once, whatever is away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dpn.database import open_sessions, reading
from dpn.doors import keeper as keeper_module
from dpn.doors import reception
from dpn.doors.door import Gate, GateState
from dpn.doors.keeper import DoorKeeper
from dpn.doors.reception import Incoming, Reception
from dpn.doors.settings import SqsDoorSettings
from dpn.doors.sqs import SqsDoor
from dpn.work import outbox
from models.messages import ReceivedMessage
from models.work import WorkItem
from tests.conftest import Services
from tests.fixtures.scripted.bench import Bench
from tests.fixtures.scripted.node import eventually
from tests.services.doors.conftest import ToyIntake


@pytest.fixture
def bench(sqlite_engine: Engine) -> Bench:
    """One database: what rows are written is tested on both."""
    return Bench(open_sessions(sqlite_engine))


@pytest.fixture
def settings(services: Services) -> SqsDoorSettings:
    """Two queues that nobody has made yet."""
    moto, name = services.up("glacier"), uuid4().hex
    return SqsDoorSettings(
        kind="sqs",
        incoming=f"in-{name}",
        outgoing=f"out-{name}",
        endpoint_url=moto["endpoint"],
        region=moto["region"],
        access_key_id=moto["access_key"],
        secret_access_key=SecretStr(moto["secret_key"]),
    )


@pytest.fixture
def client(settings: SqsDoorSettings) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret(),
    )


def keep(bench: Bench, intake: ToyIntake, settings: SqsDoorSettings) -> DoorKeeper:
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda _logger, _name, event: str(event)])
    door = SqsDoor("medusa", settings)
    return DoorKeeper(door, intake, sessions=bench.sessions, clock=bench.clock, log=log)


@pytest.fixture
def door(bench: Bench, intake: ToyIntake, settings: SqsDoorSettings) -> Iterator[DoorKeeper]:
    """Running, on a queue that it makes."""
    keeper = keep(bench, intake, settings)
    keeper.start()
    yield keeper
    keeper.stop()


def owe(bench: Bench, session: Session, body: str) -> None:
    outbox.owe(session, key=body, destination="door:medusa", body=body, item_id=None, clock=bench.clock)


def unsent(bench: Bench) -> list[outbox.Unsent]:
    with reading(bench.sessions) as session:
        return outbox.unsent(session)


def url(client: Any, name: str | None) -> str:
    return str(client.create_queue(QueueName=name)["QueueUrl"])


def left(client: Any, name: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = client.get_queue_attributes(QueueUrl=url(client, name), AttributeNames=names)["Attributes"]
    return sum(int(value) for value in attributes.values())


def items(bench: Bench) -> int:
    with reading(bench.sessions) as session:
        return session.scalar(select(func.count()).select_from(WorkItem)) or 0


def settled(bench: Bench) -> int:
    with reading(bench.sessions) as session:
        rows = select(func.count()).where(ReceivedMessage.settled_at.is_not(None))
        return session.scalar(rows) or 0


def test_each_request_becomes_an_item_and_leaves_the_queue_and_a_refusal_is_answered(
    bench: Bench, door: DoorKeeper, client: Any, settings: SqsDoorSettings
) -> None:
    for body in ('"a"', '"a"', "no JSON"):
        client.send_message(QueueUrl=url(client, settings.incoming), MessageBody=body)
    eventually(lambda: settled(bench) == 3)
    assert (items(bench), left(client, settings.incoming)) == (2, 0)
    eventually(lambda: left(client, settings.outgoing or "") == 1)
    replies = client.receive_message(QueueUrl=url(client, settings.outgoing))["Messages"]
    assert [reply["Body"] for reply in replies] == ["not JSON"]
    assert (door.state().state, door.state().received) == ("open", 3)


def test_a_message_whose_deletion_was_lost_is_the_same_request(
    bench: Bench, intake: ToyIntake, client: Any, settings: SqsDoorSettings
) -> None:
    door, seen = SqsDoor("medusa", settings.model_copy(update={"visibility_seconds": 1})), list[Incoming]()

    def receive(incoming: Incoming) -> Reception:
        seen.append(incoming)
        received = reception.receive(bench.sessions, "medusa", incoming, intake, clock=bench.clock)
        if len(seen) == 1:
            raise KeyboardInterrupt  # killed before it was deleted
        return received

    def over(_: list[int]) -> None:
        gate.set(GateState.CLOSED)

    client.send_message(QueueUrl=url(client, settings.incoming), MessageBody='"a"')
    gate = Gate()
    with pytest.raises(KeyboardInterrupt):
        door.serve(receive, over, gate)
    door.serve(receive, over, gate)
    assert seen[0].message_id == seen[1].message_id
    assert [incoming.redelivered for incoming in seen] == [False, True]
    assert (items(bench), left(client, settings.incoming)) == (1, 0)


def test_a_halted_door_takes_nothing_and_what_a_poll_still_brings_is_given_back(
    bench: Bench, door: DoorKeeper, client: Any, settings: SqsDoorSettings
) -> None:
    client.send_message(QueueUrl=url(client, settings.incoming), MessageBody='"a"')
    eventually(lambda: settled(bench) == 1)
    door.halt()
    assert door.state().state == "halted"
    client.send_message(QueueUrl=url(client, settings.incoming), MessageBody='"b"')
    with bench.sessions.begin() as session:
        owe(bench, session, "still sent")
    door.send_now()
    eventually(lambda: left(client, settings.outgoing or "") == 1, what="what is owed goes on being sent")
    assert (items(bench), left(client, settings.incoming)) == (1, 1)
    door.resume()
    eventually(lambda: settled(bench) == 2)
    assert items(bench) == 2


def test_while_the_database_is_away_a_message_waits_and_the_state_says_so(
    bench: Bench, door: DoorKeeper, client: Any, settings: SqsDoorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = threading.Event()
    is_away.set()
    receive = keeper_module.receive

    def away(*arguments: Any, **named: Any) -> Reception:
        if is_away.is_set():
            raise OperationalError("INSERT", None, Exception("server closed the connection"))
        return receive(*arguments, **named)

    monkeypatch.setattr(keeper_module, "receive", away)
    client.send_message(QueueUrl=url(client, settings.incoming), MessageBody='"a"')
    eventually(lambda: "server closed the connection" in door.state().state)
    assert left(client, settings.incoming) == 1
    is_away.clear()
    eventually(lambda: settled(bench) == 1)
    assert door.state().state == "open"


def test_a_broker_that_is_away_is_named_and_no_secret_is_told(
    bench: Bench, intake: ToyIntake, settings: SqsDoorSettings
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        lost = settings.model_copy(update={"endpoint_url": f"http://127.0.0.1:{nobody.getsockname()[1]}"})
        keeper = keep(bench, intake, lost)
        keeper.start()
        eventually(lambda: "Could not connect" in keeper.state().state)
        with bench.sessions.begin() as session:
            owe(bench, session, "a reply")
        keeper.send_now()
        eventually(lambda: unsent(bench) != [] and "Could not connect" in unsent(bench)[0].last_error)
        keeper.stop()
    assert (settings.secret() or "?") not in keeper.state().state + unsent(bench)[0].last_error
    assert unsent(bench)[0].count == 1


def test_that_a_message_is_settled_is_noted_later_if_it_cannot_be_now(
    bench: Bench, door: DoorKeeper, client: Any, settings: SqsDoorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, tries = keeper_module.note_settled, iter([True])

    def away(*arguments: Any, **named: Any) -> None:
        if next(tries, False):
            raise OperationalError("UPDATE", None, Exception("server closed the connection"))
        note(*arguments, **named)

    monkeypatch.setattr(keeper_module, "note_settled", away)
    for number, body in enumerate(('"a"', '"b"'), 1):
        client.send_message(QueueUrl=url(client, settings.incoming), MessageBody=body)
        eventually(lambda number=number: items(bench) == number)  # type: ignore[misc]
    eventually(lambda: settled(bench) == 2)
