"""What a worker does beside its stages: an outage is told once, a fault each time."""

from __future__ import annotations

import structlog
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dpn.errors import StoreUnavailable
from workers.runner.chores import Chore, ChoreThreads

DATABASE_AWAY = OperationalError("SELECT 1", {}, Exception("connection refused"))


def test_an_outage_is_told_once_until_the_chore_was_done_again_and_without_a_traceback() -> None:
    ends: list[Exception | None] = [DATABASE_AWAY, DATABASE_AWAY, StoreUnavailable("store:main", "down")]
    ends += [None, DATABASE_AWAY, None]
    lines = done(ends)
    assert [line["log_level"] for line in lines] == ["warning", "debug", "debug", "warning"]
    assert {line["event"] for line in lines} == {"a chore has to wait"}
    assert not any("exc_info" in line for line in lines)
    assert "connection refused" in lines[0]["error"]


def test_what_nobody_has_named_is_told_with_its_traceback_each_time() -> None:
    lines = done([KeyError("a"), KeyError("a")])
    assert [(line["event"], line["log_level"]) for line in lines] == [("a chore failed", "error")] * 2
    assert all("exc_info" in line for line in lines)


def done(ends: list[Exception | None]) -> list[dict[str, object]]:
    """What the log tells of a chore that is done as often as there are ends."""
    left = iter(ends)

    def run() -> None:
        if (error := next(left)) is not None:
            raise error

    chore = Chore("sweep", 1.0, run)
    with capture_logs() as lines:
        threads = ChoreThreads([chore], jitter=lambda: 0.5, log=structlog.stdlib.get_logger())
        for _ in ends:
            threads.do(chore)
    return [dict(line) for line in lines]
