"""The `[work]` table."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from dpn.setting_types import Section, Share


class WorkSettings(Section):
    """Leases, attempts, back-off and breakers."""

    lease_seconds: PositiveFloat = 60.0
    sweep_seconds: PositiveFloat = 5.0
    heartbeat_seconds: PositiveFloat = 15.0
    attempts: PositiveInt = 10
    backoff_first_seconds: PositiveFloat = 30.0
    backoff_max_seconds: PositiveFloat = 3600.0
    attention_after_seconds: PositiveFloat = 86_400.0
    verdict_poll_seconds: PositiveFloat = 300.0
    breaker_failures: PositiveInt = 3
    breaker_first_seconds: PositiveFloat = 30.0
    breaker_max_seconds: PositiveFloat = 900.0
    concurrency: PositiveInt = 2
    peer_share: Share = 0.5
    stop_timeout_seconds: PositiveFloat = 7200.0

    def among(self, nodes: int) -> WorkSettings:
        """As it holds with so many other nodes: with one, there is nobody whom that one could hold up."""
        return self if nodes > 1 else self.model_copy(update={"peer_share": 1.0})
