"""How often a server is asked again, how long is waited between, and when it is given up."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from dpn.errors import StoreUnavailable
from dpn.s3.limits import AnswerLimits, Patience, Retries

BROKE_OFF = StoreUnavailable("store:main", "it broke off")


def test_waits_grow_are_drawn_at_random_and_end_somewhere() -> None:
    retries = Retries(first_seconds=1, max_seconds=10, random=random.Random(1))

    drawn = {failed: [retries.delay_seconds(failed, None) for _ in range(200)] for failed in (1, 2, 3, 9)}

    assert all(0 <= delay <= 1 for delay in drawn[1])
    assert 1 < max(drawn[2]) <= 2
    assert 2 < max(drawn[3]) <= 4
    assert max(drawn[9]) <= 10
    assert len(set(drawn[1])) > 100
    assert retries.delay_seconds(1, 5) >= 5
    assert retries.delay_seconds(1, 5000) == 10


def test_an_answer_may_take_longer_for_more_bytes() -> None:
    limits = AnswerLimits(answer_seconds=10, slowest_bytes_a_second=1000)

    assert limits.seconds(0) == 10
    assert limits.seconds(5000) == 15


class TestPatience:
    """With an object's bytes, whose answers break off again and again."""

    def _patience(self, now: list[float]) -> Patience:
        return Patience(Retries(attempts=3, first_seconds=1, max_seconds=10), lambda: now[0], until=100)

    def test_ends_after_some_breaks_without_a_byte_between(self) -> None:
        patience = self._patience([0])

        assert patience.wait_seconds(7, BROKE_OFF) <= 1
        assert patience.wait_seconds(7, BROKE_OFF) <= 2
        with pytest.raises(StoreUnavailable):
            patience.wait_seconds(7, BROKE_OFF)

    def test_begins_anew_with_every_byte_that_none_of_the_tries_before_had(self) -> None:
        patience = self._patience([0])

        for position in range(50):
            assert patience.wait_seconds(position, BROKE_OFF) <= 1
        patience.wait_seconds(10, BROKE_OFF)
        with pytest.raises(StoreUnavailable):
            patience.wait_seconds(20, BROKE_OFF)

    def test_ends_when_so_many_bytes_have_had_their_time_however_they_dribble(self) -> None:
        now = [0.0]
        patience = self._patience(now)
        patience.wait_seconds(1, BROKE_OFF)
        now[0] = 101.0

        with pytest.raises(StoreUnavailable):
            patience.wait_seconds(2, BROKE_OFF)

    def test_waits_as_long_as_the_server_asks(self) -> None:
        assert self._patience([0]).wait_seconds(0, StoreUnavailable("store:main", "busy", 5.0)) == 5


def test_who_makes_no_client_loads_no_botocore() -> None:
    code = (
        "import sys, dpn.storage.stores, dpn.packaging.package, dpn.s3.errors, dpn.s3.limits, dpn.s3.settings;"
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore', 'awscrt', 'urllib3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
