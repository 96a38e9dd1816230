"""What a worker counts."""

from __future__ import annotations

from datetime import datetime


class WorkerMetrics:
    """Takes note of nothing, for who is not asked; see dpn.telemetry.prometheus. One a process, passed in."""

    def message(self, topic: str, answer: str) -> None:
        """A message came, and this is what was done with it."""

    def running(self, stages: int) -> None:
        """So many stages run now."""

    def stage_ended(self, task: str, stage: str, outcome: str, seconds: float) -> None:
        """A run of a stage ended, after so many seconds."""

    def lease_lost(self) -> None:
        """A lease was lost while its stage ran."""

    def swept(self, at: datetime) -> None:
        """A sweep for due items ended."""
