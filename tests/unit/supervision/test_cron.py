"""A job that has missed its time is made up for; what is said of it is said once."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from dpn.clock import ManualClock
from dpn.supervision.cron import Cron, CronJob
from dpn.supervision.running import Program
from dpn.supervision.schedule import every

NOWHERE = Program("sync", ("true",), dict(os.environ), Path("/proc/no/such/log"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def job(spread_seconds: float = 0.0) -> CronJob:
    return CronJob(NOWHERE, every(5), spread_seconds)


def test_a_job_waits_for_its_next_time_unless_it_has_missed_one(clock: ManualClock) -> None:
    cron = Cron(print, clock=clock, chance=lambda: 0.5)
    now = clock.now()
    cron.add(job())
    assert cron.lines["sync"].due == every(5)(now)
    cron.add(job(), last=now - timedelta(seconds=1))
    assert cron.lines["sync"].due == every(5)(now)
    cron.add(job(), last=now - timedelta(days=3))
    assert cron.lines["sync"].due < now
    cron.add(job(spread_seconds=30))
    assert cron.next_due() == every(5)(now) + timedelta(seconds=15)


def test_a_job_that_cannot_be_started_is_told_of_and_has_its_next_time(clock: ManualClock) -> None:
    said: list[str] = []
    cron = Cron(said.append, clock=clock, chance=lambda: 0.0)
    cron.add(job())
    for _ in range(3):
        due = cron.lines["sync"].due
        clock.advance((due - clock.now()).total_seconds())
        cron.tick()
        assert cron.lines["sync"].due == every(5)(due)
    assert len(said) == 1
    assert said[0].startswith("sync could not be started (")
