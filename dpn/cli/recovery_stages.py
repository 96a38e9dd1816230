"""Puts together the stages that get a good copy of a bag from another node: those of the worker `recovery`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.fixity.repairs import Repairs
from workers.pipelines import ASK, FETCH, JUDGE, PIPELINES

if TYPE_CHECKING:
    from dpn.node import Node
    from dpn.staging.staging import Staging
    from dpn.storage.store import Store
    from dpn.work.breakers import Breakers
    from dpn.work.pipeline import StageSpec
    from workers.stage import Stage


def recovery_stage(spec: StageSpec, node: Node, staging: Staging, store: Store, breakers: Breakers) -> Stage:
    """The stage of a recovery that `spec` names."""
    from dpn.bags.validation.profiles import load_profile
    from workers.own_copy import OurCopies
    from workers.recovery.ask import AskStage
    from workers.recovery.fetch import FetchStage
    from workers.recovery.judge import JudgeStage
    from workers.recovery.replace import SettleStage
    from workers.recovery.requests import Requests

    settings = node.settings
    peers = frozenset(settings.peers)
    requests = Requests(node.namespace, peers, settings.recovery, node.sessions, node.clock)
    if spec == ASK:
        return AskStage(requests, settings.work.verdict_poll_seconds)
    if spec == FETCH:
        return FetchStage(requests, settings.peers, staging, settings.transfer, breakers)
    if spec == JUDGE:
        profile = load_profile(settings.validation.profile)
        return JudgeStage(requests, staging, profile, settings.validation, settings.transfer.size_mismatch)
    copies = OurCopies(store, settings.store, breakers)
    repairs = Repairs(PIPELINES, node.clock)
    return SettleStage(requests, copies, staging, node.sessions, settings.fixity, repairs, node.clock)
