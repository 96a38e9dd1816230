"""Builds the stages of a replication."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.fixity.copies import Copies
from dpn.work.pipeline import StageSpec
from workers.replication import COPY, STORE, VALIDATE
from workers.replication.copy import CopyStage
from workers.replication.store import StoreStage
from workers.replication.validate import ValidateStage
from workers.runner.services import Services
from workers.stage import Stage


def _copy(services: Services) -> CopyStage:
    return CopyStage(
        node=services.namespace,
        peers=services.peers,
        peer_settings=services.settings.peers,
        staging=services.staging,
        settings=services.settings.transfer,
        breakers=services.breakers,
        verdict_poll_seconds=services.settings.work.verdict_poll_seconds,
        fetch=services.fetch,
    )


def _validate(services: Services) -> ValidateStage:
    return ValidateStage(staging=services.staging, profile=services.profile, settings=services.settings.validation)


def _store(services: Services) -> StoreStage:
    return StoreStage(
        peers=services.peers,
        staging=services.staging,
        store=services.store,
        breakers=services.breakers,
        verdict_poll_seconds=services.settings.work.verdict_poll_seconds,
        copies=Copies(services.sessions, services.settings.fixity.every_days),
    )


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {COPY: _copy, VALIDATE: _validate, STORE: _store}
