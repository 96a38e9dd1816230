"""The recovery pipeline: a bag got back from another node: ask, fetch, judge, settle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.work.pipeline import Pipeline, StageSpec
from models.manifests import RecoveryManifest
from models.work import Task
from workers.recovery.ending import RecoveryEndings

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage

ASK = StageSpec(Task.RECOVERY, "ask", worker="recovery", queue="dpn_recovery_topic")
FETCH = StageSpec(
    Task.RECOVERY,
    "fetch",
    worker="recovery",
    queue="dpn_recovery_fetch_topic",
    stages=True,
    other_nodes_pace=True,
)
JUDGE = StageSpec(Task.RECOVERY, "judge", worker="recovery", queue="dpn_recovery_judge_topic", staged=True)
SETTLE = StageSpec(
    Task.RECOVERY, "settle", worker="recovery", queue="dpn_recovery_settle_topic", staged=True, uploads=True
)

PIPELINE = Pipeline(
    Task.RECOVERY,
    (ASK, FETCH, JUDGE, SETTLE),
    manifest=RecoveryManifest,
    endings=RecoveryEndings(),
    unlogged={"receipt": {"part_sha256"}, "bad": {"receipt": {"part_sha256"}}},
)


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names; what it needs is imported only now."""
    from workers.recovery.wiring import STAGES

    return STAGES[spec](services)
