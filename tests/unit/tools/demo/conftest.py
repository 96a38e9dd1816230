"""A deposit, and where it stands, as values."""

from __future__ import annotations

import pytest

from tools.demo.deposit import DemoBag, Request

BAG = "a9f7cbab-b531-4eb7-b532-770f592629ba"


@pytest.fixture
def deposit() -> DemoBag:
    return DemoBag("bags/one.tar", BAG, "Test-0001", 61952, "ab" * 32, "cd" * 32)


@pytest.fixture
def requests(deposit: DemoBag) -> list[Request]:
    return [Request(deposit, "south", "transfer to south"), Request(deposit, "west", "transfer to west")]
