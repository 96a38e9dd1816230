"""Builds the stages of a restore: those of a fixity check, with what a restore adds, and the delivery."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.work.pipeline import StageSpec
from workers.fixity import wiring as reading
from workers.restore import DELIVER, RESTORE_CHECK, RESTORE_READY, RESTORE_RETRIEVE
from workers.restore.accept import AcceptingStage, JudgingStage
from workers.runner.services import Services
from workers.stage import Stage


def _accept(services: Services) -> AcceptingStage:
    settings = services.settings
    return AcceptingStage(
        peers=services.peers,
        reading=reading.thaw(services, settings.restore.retrieval_tier),
        outbound=settings.ingest.outbound,
        exclude=settings.ingest.exclude,
        sessions=services.sessions,
        poll_seconds=settings.work.verdict_poll_seconds,
    )


def _judge(services: Services) -> JudgingStage:
    return JudgingStage(
        reading=reading.check(services), sessions=services.sessions, new_id=services.runtime.new_id
    )


def _deliver(services: Services) -> Stage:
    from dpn.outbound.folder import Outbound
    from dpn.outbound.withdrawal import OutboundCleanup
    from workers.restore.deliver import DeliverStage

    settings = services.settings
    outbounds = [Outbound(one) for one in settings.ingest.outbound.values()]
    return DeliverStage(
        peers=services.peers,
        sessions=services.sessions,
        staging=services.staging,
        outbound=settings.ingest.outbound,
        cleanup=OutboundCleanup(services.namespace, outbounds, services.sessions, services.clock, services.log),
        settings=settings.restore,
        clock=services.clock,
        poll_seconds=settings.work.verdict_poll_seconds,
    )


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {
    RESTORE_READY: _accept,
    RESTORE_RETRIEVE: reading.retrieve,
    RESTORE_CHECK: _judge,
    DELIVER: _deliver,
}
