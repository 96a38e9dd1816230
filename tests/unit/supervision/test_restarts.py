"""What becomes of a process that ended: being killed is no fault of its own, failing again and again is."""

from __future__ import annotations

import signal

import pytest

from dpn.supervision.running import Exit
from dpn.supervision.supervisor import PAUSES_SECONDS, QUICK_SECONDS, restart_after

KILLED = Exit(-signal.SIGKILL)
FAILED = Exit(2)


def test_a_process_that_is_killed_is_soon_started_however_often_that_happens() -> None:
    """Not in the same moment: where memory runs out, that would be a loop."""
    failures = 0
    for _ in range(50):
        restart = restart_after(KILLED, ran_seconds=0.1, failures=failures)
        failures = restart.failures
        assert (restart.pause_seconds, restart.failures) == (PAUSES_SECONDS[0], 0)


def test_a_process_that_fails_at_its_start_gets_ever_longer_pauses_and_is_never_given_up() -> None:
    """The database may come up long after us."""
    failures, pauses = 0, []
    for number in range(1, 50):
        restart = restart_after(FAILED, ran_seconds=1, failures=failures)
        failures = restart.failures
        pauses.append(restart.pause_seconds)
        assert failures == number
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (PAUSES_SECONDS[0], PAUSES_SECONDS[-1])


@pytest.mark.parametrize("ending", [FAILED, KILLED, Exit(0)])
def test_a_process_that_ran_for_long_is_started_at_once_with_a_clean_record(ending: Exit) -> None:
    restart = restart_after(ending, ran_seconds=QUICK_SECONDS, failures=7)
    assert (restart.pause_seconds, restart.failures) == (0.0, 0)


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Exit(0), "ended with exit code 0"),
        (KILLED, "was killed by SIGKILL"),
        (Exit(-99), "was killed by signal 99"),
        (Exit.unstarted(PermissionError(13, "Permission denied")), "could not be started (Permission denied)"),
    ],
)
def test_an_ending_is_said_as_an_operator_would(ending: Exit, text: str) -> None:
    assert str(ending) == text
