"""Builds the stages that get a good copy of a bag from another node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.fixity.repairs import Repairs
from dpn.transfer.programs import require_programs
from dpn.work.pipeline import StageSpec
from workers.recovery import ASK, FETCH, JUDGE, SETTLE
from workers.recovery.ask import AskStage
from workers.recovery.fetch import FetchStage
from workers.recovery.judge import JudgeStage
from workers.recovery.replace import SettleStage
from workers.recovery.requests import Requests
from workers.runner.services import Services
from workers.stage import Stage


def _requests(services: Services) -> Requests:
    return Requests(
        node=services.namespace,
        peers=frozenset(services.settings.peers),
        settings=services.settings.recovery,
        sessions=services.sessions,
        clock=services.clock,
    )


def _ask(services: Services) -> AskStage:
    return AskStage(
        requests=_requests(services),
        poll_seconds=services.settings.work.verdict_poll_seconds,
        new_id=services.runtime.new_id,
    )


def _fetch(services: Services) -> FetchStage:
    require_programs(services.settings.transfer, (peer.rsync for peer in services.settings.peers.values()))
    return FetchStage(
        requests=_requests(services),
        peer_settings=services.settings.peers,
        staging=services.staging,
        transfer=services.settings.transfer,
        breakers=services.breakers,
    )


def _judge(services: Services) -> JudgeStage:
    return JudgeStage(
        requests=_requests(services),
        staging=services.staging,
        profile=services.profile,
        validation=services.settings.validation,
        size_mismatch=services.settings.transfer.size_mismatch,
    )


def _settle(services: Services) -> SettleStage:
    return SettleStage(
        requests=_requests(services),
        copies=services.own_copies,
        staging=services.staging,
        sessions=services.sessions,
        settings=services.settings.fixity,
        repairs=Repairs(services.pipelines, services.clock),
        clock=services.clock,
    )


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {
    ASK: _ask,
    FETCH: _fetch,
    JUDGE: _judge,
    SETTLE: _settle,
}
