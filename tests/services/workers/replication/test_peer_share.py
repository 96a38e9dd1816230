"""A peer that claims much and sends nothing takes no room from the others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpn.database import reading
from dpn.errors import ServiceUnavailable
from dpn.transfer import rsync
from dpn.transfer.settings import RsyncSource
from models.work import DiskReservation, Status
from tests.services.workers.replication.consortium import North, South

HUGE_BYTES = 10**15
"""More than any volume has."""


@pytest.fixture
def nobody(south: South) -> Iterator[str]:
    """Where south shall fetch north's bags from, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        source = RsyncSource(mode="daemon", hosts=(host,), port=port)
        peer = south.settings.peers["north"].model_copy(update={"rsync": source})
        south.settings = south.settings.model_copy(update={"peers": {"north": peer}})
        yield f"rsync://{host}:{port}/outbound/"


def promised(south: South) -> list[int]:
    with reading(south.sessions) as session:
        return [row.bytes for row in session.query(DiskReservation)]


def test_no_room_is_kept_for_a_size_that_the_sender_does_not_show(north: North, south: South, bag: Path) -> None:
    item = south.request(north.deposit(bag, size=HUGE_BYTES))
    south.run_due()
    after = south.item(item)
    assert f"the bag has {bag.stat().st_size} bytes, its record says {HUGE_BYTES}" in after.note
    assert (after.staging_volume, promised(south)) == (None, [])
    assert south.settle(item).status == Status.FAILED


def test_no_room_is_kept_for_a_size_while_its_sender_is_away(
    north: North, south: South, bag: Path, nobody: str
) -> None:
    item = south.request(north.deposit(bag, size=HUGE_BYTES, link=nobody + bag.name))
    south.run_due()
    assert south.item(item).note.startswith("rsync:north is unavailable: rsync exit 10")
    assert promised(south) == []


def test_a_bag_whose_sender_is_away_keeps_no_more_room_than_what_came_of_it(
    north: North, south: South, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = bag.read_bytes()[:5000]
    whole = rsync.fetch

    def break_off(_: Any, destination: Path, *, service: str, **__: Any) -> None:
        assert promised(south) == [bag.stat().st_size]
        destination.write_bytes(came)
        raise ServiceUnavailable(service, "it broke off")

    monkeypatch.setattr(rsync, "fetch", break_off)
    item = south.request(north.deposit(bag))
    south.run_due()
    (kept,) = promised(south)
    assert len(came) <= kept < bag.stat().st_size / 2
    monkeypatch.setattr(rsync, "fetch", whole)
    assert south.settle(item).status == Status.SUCCESS
