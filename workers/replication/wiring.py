"""Builds the stages of a replication: a process imports those that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.work.pipeline import StageSpec
from workers.replication import COPY, STORE, VALIDATE
from workers.runner.services import Services
from workers.stage import Stage


def _copy(services: Services) -> Stage:
    from dpn.transfer.programs import require_programs
    from workers.replication.copy import CopyStage

    require_programs(services.settings.transfer, (peer.rsync for peer in services.settings.peers.values()))
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


def _validate(services: Services) -> Stage:
    from workers.replication.validate import ValidateStage

    return ValidateStage(staging=services.staging, profile=services.profile, settings=services.settings.validation)


def _store(services: Services) -> Stage:
    from dpn.fixity.copies import Copies
    from workers.replication.store import StoreStage

    return StoreStage(
        peers=services.peers,
        staging=services.staging,
        store=services.store,
        breakers=services.breakers,
        verdict_poll_seconds=services.settings.work.verdict_poll_seconds,
        copies=Copies(services.sessions, services.settings.fixity.every_days),
    )


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {COPY: _copy, VALIDATE: _validate, STORE: _store}
