"""dpn_queue: one item for each open transfer to us, however often and by however many it is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine, event, func, insert, select

from dpn.broker.embedded import EmbeddedBroker
from dpn.work.outcomes import Done
from models.registry import Bag, ReplicationTransfer
from models.work import AuditEvent, Status, WorkItem
from tests.fixtures.scripted.bench import Bench
from workers.pipelines import PIPELINES
from workers.queue import CROWDED_MESSAGES, Queue, QueueResult

BAG = "00000000-0000-4000-b000-000000000001"
MANY = 2_000

_numbers = itertools.count(1)


@pytest.fixture
def registry(bench: Bench) -> Bench:
    """A registry with one bag."""
    now = bench.clock.now()
    with bench.sessions.begin() as session:
        session.add(
            Bag(
                uuid=BAG, local_id="bag", size=1, first_version_uuid=BAG, version=1, bag_type="D", interpretive=[],
                rights=[], ingest_node="north", admin_node="north", member=BAG, created_at=now, updated_at=now,
            )
        )  # fmt: skip
    return bench


def add_transfers(bench: Bench, count: int = 1, **values: Any) -> list[str]:
    """Open transfers from north to us, unless `values` say otherwise; returns their ids."""
    now = bench.clock.now()
    ids = [f"11111111-0000-4000-a000-{next(_numbers):012d}" for _ in range(count)]
    row = {
        "from_node": "north", "to_node": "us", "bag": BAG, "fixity_algorithm": "sha256", "protocol": "rsync",
        "link": "north:/bag.tar", "store_requested": False, "stored": False, "cancelled": False,
        "created_at": now, "updated_at": now, **values,
    }  # fmt: skip
    with bench.sessions.begin() as session:
        session.execute(insert(ReplicationTransfer), [{**row, "replication_id": id_} for id_ in ids])
    return ids


def run(bench: Bench, *, hours: float | None = None, broker: Any = None) -> QueueResult:
    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda _logger, _name, line: str(line)])
    # ReturnLogger has no `log`, which takes a level
    queue = Queue(
        node="us",
        peers=frozenset({"north", "south"}),
        sessions=bench.sessions,
        broker=broker or bench.broker,
        pipelines=PIPELINES,
        clock=bench.clock,
        log=log,
    )
    return queue.run(hours=hours)


def identifiers(bench: Bench) -> list[str]:
    with bench.sessions() as session:
        return list(session.scalars(select(WorkItem.identifier).order_by(WorkItem.identifier)))


@contextmanager
def counting(bench: Bench) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    with bench.sessions() as session:
        engine = session.get_bind()
    assert isinstance(engine, Engine)
    statements: list[str] = []

    def executed(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", executed)
    yield statements
    event.remove(engine, "before_cursor_execute", executed)


def test_open_transfers_to_us_become_items_that_are_announced(registry: Bench) -> None:
    wanted = add_transfers(registry, 3)
    add_transfers(registry, stored=True)
    add_transfers(registry, cancelled=True)
    add_transfers(registry, to_node="south")
    add_transfers(registry, from_node="us", to_node="us")
    result = run(registry)
    assert (result.created, result.announced, result.published, result.ok) == (3, 3, 3, True)
    assert identifiers(registry) == wanted
    assert [topic for topic, _ in registry.queues.waiting()] == ["dpn_copy_topic"] * 3


def test_running_it_again_makes_no_second_item_and_announces_what_is_still_due(registry: Bench) -> None:
    first, *_ = add_transfers(registry, 2)
    run(registry)
    with registry.sessions() as session:
        item = session.scalars(select(WorkItem.id).where(WorkItem.identifier == first)).one()
    registry.run(item, lambda _: Done("copied"))
    before = len(registry.queues.waiting())
    held = registry.claim(item)
    result = run(registry)
    assert (result.created, result.announced) == (0, 1)
    assert held.item_id not in [item_id for _, item_id in registry.queues.waiting()[before:]]


def test_items_of_transfers_that_have_ended_are_not_made_anew(registry: Bench) -> None:
    add_transfers(registry)
    run(registry)
    with registry.sessions.begin() as session:
        session.scalars(select(WorkItem)).one().status = Status.FAILED
    assert (run(registry).created, run(registry).announced) == (0, 0)


def test_of_many_at_once_each_item_is_made_by_one(registry: Bench) -> None:
    wanted = add_transfers(registry, 700)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run(registry), range(4)))
    assert sum(result.created for result in results) == len(wanted)
    assert all(result.ok for result in results)
    assert identifiers(registry) == wanted


def test_transfers_of_a_peer_that_the_settings_do_not_name_are_reported_and_stop_nothing(registry: Bench) -> None:
    add_transfers(registry, 2, from_node="stranger")
    wanted = add_transfers(registry)
    result = run(registry)
    assert (result.created, result.unknown_peers, result.ok) == (1, {"stranger": 2}, False)
    assert identifiers(registry) == wanted


def test_what_spoils_one_step_of_a_run_stops_none_of_the_others(
    registry: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_transfers(registry)

    def spoilt(*_: object, **__: object) -> None:
        raise KeyError("a row that nobody expected")

    monkeypatch.setattr("workers.queue.lock_free", spoilt)
    result = run(registry)
    assert result.errors == ["closing items broke off: KeyError('a row that nobody expected')"]
    assert (result.created, result.announced, result.published) == (1, 1, 1)


def test_hours_leave_out_what_has_not_changed_for_longer(registry: Bench) -> None:
    old = add_transfers(registry, updated_at=registry.clock.now() - timedelta(hours=5))
    new = add_transfers(registry, updated_at=registry.clock.now() - timedelta(hours=3))
    assert run(registry, hours=4).created == 1
    assert identifiers(registry) == new
    assert run(registry).created == 1, "without it nothing is left out"
    assert identifiers(registry) == sorted(old + new)


def test_a_broker_that_is_down_fails_the_run_but_loses_nothing(registry: Bench) -> None:
    add_transfers(registry, 2)
    registry.queues.down = True
    result = run(registry)
    assert (result.created, result.published, result.ok) == (2, 0, False)
    assert len(registry.intents()) == 2
    registry.queues.down = False
    assert run(registry).published == 2


def test_a_long_backlog_is_not_announced_again_and_again(registry: Bench) -> None:
    add_transfers(registry, 3)
    registry.broker.publish("dpn_copy_topic", *range(CROWDED_MESSAGES))
    result = run(registry)
    assert (result.created, result.announced, result.ok) == (3, 0, True)
    assert registry.queues.take(["dpn_copy_topic"]) is not None
    assert run(registry).announced == 3


def test_thousands_of_transfers_take_no_query_for_each(registry: Bench) -> None:
    """Over the embedded broker, whose messages are queries, too."""
    add_transfers(registry, MANY)
    with registry.sessions() as session:
        engine = session.get_bind()
        assert isinstance(engine, Engine)
    with counting(registry) as statements:
        result = run(registry, broker=EmbeddedBroker(engine, poll_seconds=1))
    assert (result.created, result.announced, result.published) == (MANY, MANY, MANY)
    assert len(statements) < MANY / 10
    with registry.sessions() as session:
        assert session.scalar(select(func.count()).select_from(WorkItem)) == MANY
    assert registry.intents() == []


def test_every_item_that_is_made_is_in_the_audit_trail_once(registry: Bench) -> None:
    identifiers = add_transfers(registry, 3)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: run(registry), range(4)))
    with registry.sessions() as session:
        events = session.execute(
            select(AuditEvent.object_id, AuditEvent.item_id).where(AuditEvent.event_type == "item created")
        ).all()
        items = session.execute(select(WorkItem.identifier, WorkItem.id)).all()
    assert sorted(events) == sorted(items)
    assert sorted(identifier for identifier, _ in events) == sorted(identifiers)
