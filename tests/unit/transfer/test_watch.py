"""When a running fetch is stopped, and when it is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.errors import LeaseLost, ServiceUnavailable
from dpn.transfer.errors import SourceTooLarge
from dpn.transfer.watch import PROGRESS_BYTES, FetchWatch

GROUP = 1


class Fetch:
    """A fetch that moves only when told to."""

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.clock = ManualClock()
        self.cancellation = Cancellation()
        self.io_bytes = 0
        self.sizes: list[int] = []
        self.watch = FetchWatch(
            destination,
            service="rsync:north",
            stall_seconds=900,
            max_bytes=1000,
            cancellation=self.cancellation,
            progress=self.sizes.append,
            clock=self.clock,
            io_bytes_of=lambda group: self.io_bytes,
        )

    def pass_by(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.watch(GROUP)


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path / "bag.tar")


def test_a_fetch_that_writes_is_left_alone(fetch: Fetch) -> None:
    for size in range(5):
        fetch.destination.write_bytes(b"x" * size)
        fetch.pass_by(899)
    assert fetch.sizes == [0, 1, 2, 3, 4]


def test_a_fetch_that_compares_what_is_here_already_is_left_alone(fetch: Fetch) -> None:
    fetch.destination.write_bytes(b"x" * 1000)
    for _ in range(5):
        fetch.io_bytes += PROGRESS_BYTES
        fetch.pass_by(899)


def test_nothing_but_keep_alive_messages_is_a_stall(fetch: Fetch) -> None:
    fetch.pass_by(1)
    for _ in range(8):
        fetch.io_bytes += 100
        fetch.pass_by(100)
    with pytest.raises(ServiceUnavailable, match="nothing has come for 900 s") as raised:
        fetch.pass_by(100)
    assert raised.value.service == "rsync:north"


def test_a_file_that_grows_too_large_is_stopped(fetch: Fetch) -> None:
    fetch.destination.write_bytes(b"x" * 1000)
    fetch.pass_by(1)
    fetch.destination.write_bytes(b"x" * 1001)
    with pytest.raises(SourceTooLarge):
        fetch.pass_by(1)


def test_a_cancelled_fetch_ends_with_the_error_that_cancelled_it(fetch: Fetch) -> None:
    fetch.cancellation.cancel(LeaseLost("another worker holds it"))
    with pytest.raises(LeaseLost):
        fetch.pass_by(1)
