"""Builds the stage that tells peers what we owe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpn.work.pipeline import StageSpec
from workers.notice import TELL
from workers.notice.tell import TellStage
from workers.runner.services import Services
from workers.stage import Stage


def _tell(services: Services) -> TellStage:
    return TellStage(peers=services.peers)


STAGES: Mapping[StageSpec, Callable[[Services], Stage]] = {TELL: _tell}
