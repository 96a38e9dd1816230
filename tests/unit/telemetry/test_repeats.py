"""A line that somebody makes come again and again fills no log, and what was left out is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dpn.telemetry.repeats import MAX_KINDS, BoundedWarnings, Repeats


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logged(clock: Clock) -> Iterator[tuple[logging.Logger, Kept]]:
    logger, kept = logging.getLogger("tests.repeats"), Kept()
    logger.propagate = False
    logger.addHandler(kept)
    kept.addFilter(BoundedWarnings(2, 60.0, clock))
    yield logger, kept
    logger.removeHandler(kept)


def test_so_many_of_a_kind_in_a_time_and_the_next_one_says_how_many_were_left_out(clock: Clock) -> None:
    repeats = Repeats(2, 60.0, clock)
    assert [repeats.admit("a") for _ in range(5)] == [0, 0, None, None, None]
    assert repeats.admit("b") == 0
    clock.now = 60.0
    assert [repeats.admit("a") for _ in range(3)] == [3, 0, None]
    clock.now = 120.0
    assert repeats.admit("b") == 0


def test_ever_new_kinds_take_no_more_memory_and_share_one_bound(clock: Clock) -> None:
    repeats = Repeats(2, 60.0, clock)
    admitted = [repeats.admit(str(number)) for number in range(MAX_KINDS + 10)]
    assert admitted.count(0) == MAX_KINDS + 2


@pytest.mark.parametrize("said", ["junk came", {"event": "junk came", "client": "192.0.2.7"}])
def test_warnings_are_bounded_ours_and_those_of_libraries(
    logged: tuple[logging.Logger, Kept], clock: Clock, said: Any
) -> None:
    logger, kept = logged
    for _ in range(5):
        logger.warning(said)
    assert len(kept.records) == 2
    logger.warning("something else")
    assert len(kept.records) == 3
    clock.now = 60.0
    logger.warning(said)
    last = kept.records[-1]
    assert (last.msg if isinstance(last.msg, dict) else vars(last))["left_out"] == 3


def test_what_is_no_warning_is_not_counted(logged: tuple[logging.Logger, Kept]) -> None:
    logger, kept = logged
    logger.setLevel(logging.INFO)
    for _ in range(5):
        logger.info("request")
    assert len(kept.records) == 5
