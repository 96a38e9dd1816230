"""Registries of a node `north` with the peers `south` and `west`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from dpn.clock import ManualClock
from dpn.registry.catalogue import Kind
from dpn.registry.catalogue.rows import save
from dpn.registry.records import Record
from tests.fixtures.records import a_bag, a_digest, a_transfer
from tests.fixtures.registry import RunningRegistry, running_registry

R = TypeVar("R", bound=Record)

PEERS = ("south", "west")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry(tmp_path: Path, clock: ManualClock) -> Iterator[RunningRegistry]:
    """Empty, on SQLite: for what does not depend on the database."""
    url = f"sqlite:///{tmp_path / 'north.db'}"
    with running_registry("north", database_url=url, folder=tmp_path, peers=PEERS, clock=clock) as running:
        yield running


@pytest.fixture
def any_registry(database_url: str, tmp_path: Path, clock: ManualClock) -> Iterator[RunningRegistry]:
    """Empty, on SQLite and on PostgreSQL."""
    with running_registry(
        "north", database_url=database_url, folder=tmp_path, peers=PEERS, clock=clock
    ) as running:
        yield running


def post(registry: RunningRegistry, *records: Record) -> None:
    """Records them as the node itself."""
    paths = {"BagRecord": "/bag", "ReplicationRecord": "/replicate"}
    for record in records:
        name = type(record).__name__
        path = f"/bag/{record.key[0]}/digest" if name == "DigestRecord" else paths[name]
        answer = registry.ask("north", "POST", path, json=record.to_wire())
        assert answer.status_code == 201, answer.text


def put_in(registry: RunningRegistry, kind: Kind[R], records: Sequence[R]) -> None:
    """Writes many records past the rules, quickly."""
    with registry.sessions.begin() as session:
        save(session, kind, records)


@pytest.fixture
def with_a_transfer(registry: RunningRegistry) -> RunningRegistry:
    """`registry` with one bag, its digest, and a transfer of it to south."""
    post(registry, a_bag(), a_digest(), a_transfer())
    return registry
