"""What is owed outside is sent until it was taken, once if nothing breaks, and never forgotten before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from dpn.database import reading
from dpn.errors import ServiceUnavailable, TransientError
from dpn.work import outbox
from dpn.work.outcomes import Wait
from models.messages import OwedMessage
from tests.fixtures.scripted.bench import LEASE_SECONDS, Bench
from workers.stage import Job

DOOR = "door:medusa"


@dataclass
class Recorder:
    """Takes what it is sent, unless `trouble` raises."""

    destination: str = DOOR
    taken: list[str] = field(default_factory=list)
    trouble: Callable[[str], None] = lambda _: None

    def send(self, body: str) -> None:
        self.trouble(body)
        self.taken.append(body)


def owe(bench: Bench, *bodies: str, destination: str = DOOR, item: int | None = None) -> list[bool]:
    with bench.sessions.begin() as session:
        return [
            outbox.owe(session, key=body, destination=destination, body=body, item_id=item, clock=bench.clock)
            for body in bodies
        ]


def send(bench: Bench, recorder: Recorder) -> int:
    return outbox.send_due(bench.sessions, recorder, clock=bench.clock)


def rows(bench: Bench) -> list[OwedMessage]:
    with reading(bench.sessions) as session:
        return list(session.scalars(select(OwedMessage).order_by(OwedMessage.id)))


def test_what_is_owed_is_sent_once_in_order_to_whom_it_is_owed(bench: Bench) -> None:
    recorder = Recorder()
    assert owe(bench, "a", "b") == [True, True]
    owe(bench, "c", destination="door:other")
    assert owe(bench, "a") == [False]
    assert send(bench, recorder) == 2
    assert send(bench, recorder) == 0
    assert recorder.taken == ["a", "b"]
    assert owe(bench, "a") == [False], "what was sent is not owed again under its key"
    assert [row.sent_at is not None for row in rows(bench)] == [True, True, False]


def test_more_than_a_batch_goes_out_at_once(bench: Bench) -> None:
    recorder, many = Recorder(), [f"{number:03}" for number in range(outbox.BATCH * 2 + 1)]
    owe(bench, *many)
    assert send(bench, recorder) == len(many)
    assert recorder.taken == many


def test_what_a_destination_does_not_take_waits_longer_each_time_and_holds_nothing_up(bench: Bench) -> None:
    def refuse(body: str) -> None:
        if body == "b":
            raise TransientError("the queue is full")

    recorder = Recorder(trouble=refuse)
    owe(bench, "a", "b", "c")
    send(bench, recorder)
    assert recorder.taken == ["a", "c"]
    for pause in (1, 2, 4):
        before = bench.clock.now()
        (waiting,) = [row for row in rows(bench) if row.sent_at is None]
        assert waiting.next_try_at - before == timedelta(seconds=pause)
        assert waiting.last_error == "the queue is full"
        bench.clock.advance(pause)
        send(bench, recorder)
    assert outbox.pause_seconds(1000) == outbox.LONGEST_PAUSE_SECONDS
    recorder.trouble = lambda _: None
    bench.clock.advance(8)
    send(bench, recorder)
    assert recorder.taken == ["a", "c", "b"]


def test_a_destination_that_is_away_costs_no_message_its_turn(bench: Bench) -> None:
    def away(body: str) -> None:
        if body == "b":
            raise ServiceUnavailable(DOOR, "connection refused")

    recorder = Recorder(trouble=away)
    owe(bench, "a", "b", "c")
    with pytest.raises(ServiceUnavailable):
        send(bench, recorder)
    assert [(row.sent_at is not None, row.attempts) for row in rows(bench)] == [(True, 0), (False, 0), (False, 0)]
    with reading(bench.sessions) as session:
        (left,) = outbox.unsent(session)
    assert (left.destination, left.count) == (DOOR, 2)
    assert "connection refused" in left.last_error
    recorder.trouble = lambda _: None
    bench.clock.advance(1)
    send(bench, recorder)
    assert recorder.taken == ["a", "b", "c"]


def test_what_another_process_is_sending_is_left_to_it_until_it_has_had_its_time(bench: Bench) -> None:
    second = Recorder()

    def die(_: str) -> None:
        assert send(bench, second) == 0, "the other process, meanwhile"
        raise KeyboardInterrupt

    def vanish(bench: Bench) -> None:
        """As if it had been killed: it notes nothing."""
        with bench.sessions.begin() as session:
            for row in session.scalars(select(OwedMessage)):
                row.next_try_at = bench.clock.now() + timedelta(seconds=outbox.HELD_SECONDS)

    owe(bench, "a")
    with pytest.raises(KeyboardInterrupt):
        send(bench, Recorder(trouble=die))
    vanish(bench)
    assert send(bench, second) == 0
    bench.clock.advance(outbox.HELD_SECONDS)
    assert send(bench, second) == 1


def test_what_was_not_sent_can_be_withdrawn_and_what_was_sent_cannot(bench: Bench, item: int) -> None:
    owe(bench, "a", item=item)
    send(bench, Recorder())
    owe(bench, "b", item=item)
    owe(bench, "c")
    with bench.sessions.begin() as session:
        assert outbox.count_of_item(session, item) == 2
        assert outbox.withdraw(session, item) == 1
    assert [row.body for row in rows(bench)] == ["a", "c"]


def test_what_was_sent_is_kept_for_thirty_days_and_what_was_not_for_ever(bench: Bench) -> None:
    owe(bench, "sent")
    send(bench, Recorder())
    owe(bench, "unsent")
    bench.clock.advance(30 * 86_400 - 1)
    assert outbox.forget_sent(bench.sessions, clock=bench.clock) == 0
    bench.clock.advance(2)
    assert outbox.forget_sent(bench.sessions, clock=bench.clock) == 1
    assert [row.body for row in rows(bench)] == ["unsent"]


def test_what_a_stage_owes_is_owed_with_its_end_and_not_without(bench: Bench, item: int) -> None:
    def answer(job: Job[Any]) -> Wait:
        job.owe(key="1", destination=DOOR, body="half of it")
        job.save("half")
        job.owe(key="2", destination=DOOR, body="all of it")
        return Wait(1, "and the rest")

    def lose(job: Job[Any]) -> Wait:
        job.owe(key="3", destination=DOOR, body="too late")
        bench.clock.advance(LEASE_SECONDS + 1)
        bench.claim(item, worker="b")
        return Wait(1, "it thinks")

    bench.run(item, answer)
    bench.clock.advance(1)
    bench.run(item, lose)
    assert [(row.body, row.item_id) for row in rows(bench)] == [("half of it", item), ("all of it", item)]


def test_a_slow_destination_is_left_the_rest_before_another_process_may_send_it(bench: Bench) -> None:
    def slow(_: str) -> None:
        bench.clock.advance(outbox.HELD_SECONDS / 2)

    recorder = Recorder(trouble=slow)
    owe(bench, "a", "b")
    assert send(bench, recorder) == 1
    assert recorder.taken == ["a"]
    (left,) = [row for row in rows(bench) if row.sent_at is None]
    assert (left.attempts, left.last_error) == (0, "who sends it was slow, or broke off")
    bench.clock.advance(1)
    assert send(bench, recorder) == 1
