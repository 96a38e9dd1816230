"""Absence counts only if somebody watched all the while."""

from __future__ import annotations

from dpn.clock import ManualClock
from workers.runner.database_uptime import Witness


def test_who_has_just_come_has_seen_nothing_yet() -> None:
    assert Witness(ManualClock(), longest_gap_seconds=100).saw() == 0


def test_what_was_seen_without_a_gap_adds_up() -> None:
    clock = ManualClock()
    witness = Witness(clock, longest_gap_seconds=100)
    witness.saw()
    for _ in range(5):
        clock.advance(60)
        seen = witness.saw()
    assert seen == 300


def test_an_outage_of_the_database_begins_the_count_anew() -> None:
    clock = ManualClock()
    witness = Witness(clock, longest_gap_seconds=100)
    witness.saw()
    clock.advance(60)
    witness.was_blind()
    clock.advance(10)
    assert witness.saw() == 0


def test_a_process_that_slept_too_long_begins_the_count_anew() -> None:
    clock = ManualClock()
    witness = Witness(clock, longest_gap_seconds=100)
    witness.saw()
    clock.advance(101)
    assert witness.saw() == 0
