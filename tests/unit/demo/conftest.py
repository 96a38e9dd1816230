"""A deposit, and where it stands, as values."""

from __future__ import annotations

import pytest

from dpn.cli.demo.deposit import Deposit, Request
from dpn.cli.demo.sources import MEMBER
from dpn.registry.records import BagRecord

BAG = "a9f7cbab-b531-4eb7-b532-770f592629ba"


@pytest.fixture
def deposit() -> Deposit:
    record = BagRecord.from_wire(
        {
            "uuid": BAG,
            "local_id": "Test-0001",
            "member": MEMBER,
            "size": 61952,
            "first_version_uuid": BAG,
            "version": 1,
            "bag_type": "D",
            "ingest_node": "north",
            "admin_node": "north",
            "created_at": "2024-01-02T03:04:05Z",
            "updated_at": "2024-01-02T03:04:05Z",
        }
    )
    return Deposit("bags/one.tar", 61952, "ab" * 32, "cd" * 32, record)


@pytest.fixture
def requests(deposit: Deposit) -> list[Request]:
    return [Request(deposit, "south", "transfer to south"), Request(deposit, "west", "transfer to west")]
