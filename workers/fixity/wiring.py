"""Builds the stages of a fixity check; those that read our copy for another purpose are built here, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.storage.settings import Tier
from dpn.work.pipeline import StageSpec
from workers.fixity import CHECK, RESTORE_INIT, RETRIEVE
from workers.runner.services import Services
from workers.stage import Stage


def thaw(services: Services, tier: Tier | None = None) -> Stage:
    """Brings a copy out of cold storage, by default at the speed at which checks may wait."""
    from dpn.fixity.thaw_budget import ColdBudget
    from workers.fixity.thaw import RestoreInitStage

    fixity = services.settings.fixity
    return RestoreInitStage(
        copies=services.own_copies,
        budget=ColdBudget(services.sessions, fixity.max_cold_bytes_per_month, services.clock),
        settings=fixity,
        tier=tier or fixity.retrieval_tier,
        clock=services.clock,
    )


def retrieve(services: Services) -> Stage:
    """Brings a copy to a staging volume."""
    from workers.fixity.retrieve import RetrieveStage

    return RetrieveStage(
        copies=services.own_copies,
        staging=services.staging,
        settings=services.settings.fixity,
        clock=services.clock,
    )


def check(services: Services) -> Stage:
    """Judges a copy."""
    from dpn.fixity.repairs import Repairs
    from workers.fixity.check import CheckStage

    return CheckStage(
        node=services.namespace,
        sessions=services.sessions,
        copies=services.own_copies,
        staging=services.staging,
        profile=services.profile,
        validation=services.settings.validation,
        settings=services.settings.fixity,
        clock=services.clock,
        repairs=Repairs(services.pipelines, services.clock) if services.settings.recovery.repair else None,
    )


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {RESTORE_INIT: thaw, RETRIEVE: retrieve, CHECK: check}
