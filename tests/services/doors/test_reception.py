"""No request from outside is lost, and none is taken for two, whenever its settling or its answer is lost."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dpn.clock import Clock
from dpn.database import reading
from dpn.doors import reception
from dpn.doors.reception import Incoming, Reception
from models.messages import OwedMessage, ReceivedMessage
from models.work import WorkItem
from tests.fixtures.scripted.bench import Bench
from tests.services.doors.conftest import ToyIntake

DOOR = "medusa"


def receive(bench: Bench, intake: ToyIntake, incoming: Incoming, door: str = DOOR) -> Reception:
    return reception.receive(bench.sessions, door, incoming, intake, clock=bench.clock)


def settle(bench: Bench, *received: Reception) -> None:
    reception.note_settled(bench.sessions, [one.id for one in received], clock=bench.clock)


def items(bench: Bench) -> int:
    with reading(bench.sessions) as session:
        return session.scalar(select(func.count()).select_from(WorkItem)) or 0


def test_a_request_and_that_it_came_are_written_together(bench: Bench, intake: ToyIntake) -> None:
    received = receive(bench, intake, Incoming(b'"a"'))
    with reading(bench.sessions) as session:
        row = session.get_one(ReceivedMessage, received.id)
    assert (row.item_id, row.settled_at, row.door) == (received.item_id, None, DOOR)
    assert items(bench) == 1


def test_what_breaks_off_leaves_nothing_and_is_taken_when_it_comes_again(bench: Bench, intake: ToyIntake) -> None:
    class Dying(ToyIntake):
        def take(self, session: Session, door: str, body: bytes, *, clock: Clock) -> int | None:
            super().take(session, door, body, clock=clock)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        receive(bench, Dying(), Incoming(b'"a"'))
    assert items(bench) == 0
    assert receive(bench, intake, Incoming(b'"a"', redelivered=True)).is_new
    assert items(bench) == 1


def test_a_refusal_is_owed_and_the_message_is_known(bench: Bench, intake: ToyIntake) -> None:
    assert receive(bench, intake, Incoming(b"no JSON", message_id="1")).item_id is None
    assert not receive(bench, intake, Incoming(b"no JSON", message_id="1")).is_new
    with reading(bench.sessions) as session:
        assert session.scalars(select(OwedMessage.body)).all() == ["not JSON"]


@pytest.mark.parametrize("settled", [False, True])
def test_what_a_broker_calls_by_the_same_name_is_one_request(
    bench: Bench, intake: ToyIntake, settled: bool
) -> None:
    """As SQS and NSQ do; also when it was settled and the broker has lost that."""
    first = receive(bench, intake, Incoming(b'"a"', message_id="1"))
    if settled:
        settle(bench, first)
    again = receive(bench, intake, Incoming(b'"a"', message_id="1"))
    assert (again.item_id, again.is_new) == (first.item_id, False)
    assert receive(bench, intake, Incoming(b'"a"', message_id="2")).is_new
    assert receive(bench, intake, Incoming(b'"a"', message_id="1"), door="other").is_new
    assert items(bench) == 3


def test_what_comes_again_before_it_was_settled_is_the_same_request(bench: Bench, intake: ToyIntake) -> None:
    first = receive(bench, intake, Incoming(b'"a"'))
    again = receive(bench, intake, Incoming(b'"a"', redelivered=True))
    assert (again.id, again.item_id, again.is_new) == (first.id, first.item_id, False)
    assert items(bench) == 1


def test_the_same_body_sent_twice_is_two_requests(bench: Bench, intake: ToyIntake) -> None:
    first, second = (receive(bench, intake, Incoming(b'"a"')) for _ in range(2))
    assert first.item_id != second.item_id
    settle(bench, first, second)
    assert receive(bench, intake, Incoming(b'"a"', redelivered=True)).is_new, "it had not come to us before"
    assert items(bench) == 3


def test_of_two_alike_that_come_again_each_is_another_ones(bench: Bench, intake: ToyIntake) -> None:
    """Else one would stay unsettled, and a later request of the same words would be taken for it."""
    first = [receive(bench, intake, Incoming(b'"a"')) for _ in range(2)]
    bench.clock.advance(1)
    again = [receive(bench, intake, Incoming(b'"a"', redelivered=True)) for _ in range(2)]
    assert {one.id for one in again} == {one.id for one in first}
    settle(bench, *again)
    assert receive(bench, intake, Incoming(b'"a"', redelivered=True)).is_new


def test_a_redelivered_message_of_another_door_is_no_repetition(bench: Bench, intake: ToyIntake) -> None:
    receive(bench, intake, Incoming(b'"a"'))
    assert receive(bench, intake, Incoming(b'"a"', redelivered=True), door="other").is_new


def test_what_was_received_is_forgotten_after_thirty_days_and_its_item_stays(
    bench: Bench, intake: ToyIntake
) -> None:
    receive(bench, intake, Incoming(b'"a"', message_id="1"))
    bench.clock.advance(30 * 86_400 - 1)
    assert reception.forget_received(bench.sessions, clock=bench.clock) == 0
    bench.clock.advance(2)
    assert reception.forget_received(bench.sessions, clock=bench.clock) == 1
    assert items(bench) == 1


def test_a_commit_of_which_nothing_was_heard_may_be_tried_again(bench: Bench, intake: ToyIntake) -> None:
    """Though the broker says of it that it comes for the first time, and another one of the same words waits."""
    receive(bench, intake, Incoming(b'"a"'))
    incoming = Incoming(b'"a"')
    first, again = receive(bench, intake, incoming), receive(bench, intake, incoming)
    assert (again.id, again.is_new) == (first.id, False)
    assert items(bench) == 2


def test_of_two_that_get_a_message_at_the_same_moment_one_takes_it(
    bench: Bench, intake: ToyIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = receive(bench, intake, Incoming(b'"a"', message_id="1"))
    look, looks = reception._known, iter([True])

    def too_early(*arguments: Any) -> ReceivedMessage | None:
        return None if next(looks, False) else look(*arguments)

    monkeypatch.setattr(reception, "_known", too_early)
    again = receive(bench, intake, Incoming(b'"a"', message_id="1"))
    assert (again.id, again.is_new) == (first.id, False)
    assert items(bench) == 1
