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
KIBIBYTE = 1024


class Fetch:
    """A fetch that moves only when told to."""

    def __init__(self, destination: Path, *, minimum_rate: int = 0, max_bytes: int = 1000) -> None:
        self.destination = destination
        self.clock = ManualClock()
        self.cancellation = Cancellation()
        self.io_bytes = 0
        self.sizes: list[int] = []
        self.watch = FetchWatch(
            destination,
            service="rsync:north",
            stall_seconds=900,
            minimum_rate=minimum_rate,
            max_bytes=max_bytes,
            cancellation=self.cancellation,
            progress=self.sizes.append,
            clock=self.clock,
            io_bytes_of=lambda group: self.io_bytes,
        )

    def pass_by(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.watch(GROUP)

    def move(self, moved_bytes: int, *, every_seconds: float, times: int) -> None:
        for _ in range(times):
            self.io_bytes += moved_bytes
            self.pass_by(every_seconds)


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


def test_a_few_bytes_now_and_then_do_not_hold_a_slot(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path / "bag.tar", minimum_rate=64 * KIBIBYTE, max_bytes=10**12)
    with pytest.raises(
        ServiceUnavailable, match=r"only .* bytes moved in 900 s.*minimum_rate_kib asks for 64 KiB"
    ):
        fetch.move(630 * KIBIBYTE, every_seconds=10, times=90)


def test_a_greeting_without_end_does_not_hold_a_slot(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path / "bag.tar", minimum_rate=64 * KIBIBYTE)
    with pytest.raises(ServiceUnavailable, match=r"did not come whole|only .* bytes moved"):
        fetch.move(PROGRESS_BYTES, every_seconds=10, times=91)


def test_a_fetch_at_the_least_rate_may_take_as_long_as_its_size_needs(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path / "bag.tar", minimum_rate=64 * KIBIBYTE, max_bytes=64 * KIBIBYTE * 10_000)
    fetch.move(6400 * KIBIBYTE, every_seconds=100, times=100)


def test_each_stretch_of_a_fetch_must_come_to_the_least_rate(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path / "bag.tar", minimum_rate=64 * KIBIBYTE, max_bytes=10**12)
    fetch.io_bytes += 10**9  # what came at once buys no time for what does not
    fetch.pass_by(900)
    with pytest.raises(ServiceUnavailable, match="only"):
        fetch.move(PROGRESS_BYTES, every_seconds=100, times=9)


def test_a_fetch_is_over_when_a_bag_of_its_size_would_be(tmp_path: Path) -> None:
    """Bytes that are no part of the file, such as messages, may come as fast as they like."""
    fetch = Fetch(tmp_path / "bag.tar", minimum_rate=64 * KIBIBYTE, max_bytes=64 * KIBIBYTE * 1000)
    with pytest.raises(ServiceUnavailable, match="did not come whole in 1900 s"):
        fetch.move(10**9, every_seconds=100, times=19)


def test_a_file_that_grows_counts_where_the_kernel_tells_of_no_traffic(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path / "bag.tar", minimum_rate=KIBIBYTE, max_bytes=10**7)
    fetch.pass_by(1)
    fetch.destination.write_bytes(b"x" * KIBIBYTE * 899)
    fetch.pass_by(898)
    fetch.destination.write_bytes(b"x" * KIBIBYTE * 900)
    fetch.pass_by(1)


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
