"""A migrated database, on SQLite and PostgreSQL, and a clock that only moves when told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dpn.clock import ManualClock
from dpn.database import Sessions, insert_missing, open_engine, open_sessions, upgrade
from dpn.work.items import new_item
from models.manifests import ReplicationManifest
from models.work import Task, WorkItem
from workers.pipelines import PIPELINES


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine = open_engine(database_url)
    upgrade(engine)
    yield open_sessions(engine)
    engine.dispose()


@pytest.fixture
def item(sessions: Sessions, clock: ManualClock) -> int:
    """A replication at its first stage, due now."""
    return make_item(sessions, clock, "11111111-0000-4000-a000-000000000001")


def make_item(sessions: Sessions, clock: ManualClock, identifier: str, **values: object) -> int:
    row = new_item(
        task=Task.REPLICATION,
        identifier=identifier,
        remote_node="north",
        note="requested",
        manifest=ReplicationManifest().model_dump(mode="json"),
        pipelines=PIPELINES,
        clock=clock,
    )
    with sessions.begin() as session:
        assert insert_missing(session, WorkItem, [{**row, **values}]) == 1
        made = session.query(WorkItem).filter_by(identifier=identifier).one()
        return made.id
