"""The `[recovery]` table."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat

from dpn.setting_types import NamespaceName, Section


class RecoverySettings(Section):
    """How we get good copies of bags from other nodes."""

    repair: bool = False
    prefer: tuple[NamespaceName, ...] = ()
    answer_days: PositiveFloat = 7.0
    prove_within_days: NonNegativeFloat = 0.0
