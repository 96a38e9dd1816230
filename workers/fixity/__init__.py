"""The fixity pipeline: restore-init, retrieve, check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.work.endings import Endings
from dpn.work.pipeline import Pipeline, StageSpec
from models.manifests import CheckManifest
from models.work import Task

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage

RESTORE_INIT = StageSpec(
    Task.FIXITY, "restore-init", worker="glacier-restore-init", queue="dpn_glacier_restore_topic"
)
RETRIEVE = StageSpec(Task.FIXITY, "retrieve", worker="s3-retriever", queue="dpn_s3_download_topic", stages=True)
CHECK = StageSpec(Task.FIXITY, "check", worker="fixity-checker", queue="dpn_fixity_topic", staged=True)

PIPELINE = Pipeline(
    Task.FIXITY,
    (RESTORE_INIT, RETRIEVE, CHECK),
    manifest=CheckManifest,
    endings=Endings(),
    unlogged={"copied": {"receipt": {"part_sha256"}}},
)


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names; what it needs is imported only now."""
    from workers.fixity.wiring import STAGES

    return STAGES[spec](services)
