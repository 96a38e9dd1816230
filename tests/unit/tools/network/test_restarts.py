"""What becomes of a process that ended: being killed is an experiment, failing again and again is not."""

from __future__ import annotations

import signal

import pytest

from tools.network.processes import Exit, clean_environment
from tools.network.supervisor import GIVE_UP_AFTER, restart_after

KILLED = Exit(-signal.SIGKILL)
FAILED = Exit(2)


def test_a_killed_process_is_started_at_once_however_often_it_is_killed() -> None:
    failures = 0
    for _ in range(10 * GIVE_UP_AFTER):
        restart = restart_after(KILLED, ran_seconds=0.1, failures=failures)
        assert restart.pause_seconds == 0
        failures = restart.failures
    assert failures < GIVE_UP_AFTER


def test_a_process_that_fails_at_its_start_gets_ever_longer_pauses_and_is_given_up() -> None:
    failures, pauses = 0, []
    while failures < GIVE_UP_AFTER:
        restart = restart_after(FAILED, ran_seconds=1, failures=failures)
        assert restart.failures == failures + 1
        failures = restart.failures
        pauses.append(restart.pause_seconds)
    assert pauses == sorted(pauses)
    assert pauses[0] > 0


def test_a_process_that_ran_for_long_starts_with_a_clean_record() -> None:
    assert restart_after(FAILED, ran_seconds=1000, failures=GIVE_UP_AFTER - 1).failures == 0


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Exit(0), "ended with exit code 0"),
        (KILLED, "was killed by SIGKILL"),
        (Exit(-99), "was killed by signal 99"),
    ],
)
def test_an_ending_is_said_as_an_operator_would(ending: Exit, text: str) -> None:
    assert str(ending) == text


def test_nothing_in_our_environment_steers_a_node() -> None:
    hostile = {"DPN_STORE__URL": "x", "AWS_PROFILE": "x", "http_proxy": "x", "HTTPS_PROXY": "x", "RSYNC_RSH": "x"}
    kept = clean_environment({"PATH": "/bin", "HOME": "/home/me", **hostile})
    assert not hostile.keys() & kept.keys()
    assert kept["PATH"] == "/bin"
    assert kept["HOME"] == "/home/me"
