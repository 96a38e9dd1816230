"""The restore pipeline: our copy handed to the node that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.work.pipeline import Pipeline, StageSpec
from models.manifests import RestoreManifest
from models.work import Task
from workers.cancellations import TransferEndings

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage

RESTORE_READY = StageSpec(
    Task.RESTORE,
    "restore-init",
    worker="glacier-restore-init",
    queue="dpn_restore_topic",
    other_nodes_pace=True,
)
RESTORE_RETRIEVE = StageSpec(
    Task.RESTORE, "retrieve", worker="s3-retriever", queue="dpn_restore_download_topic", stages=True
)
RESTORE_CHECK = StageSpec(
    Task.RESTORE, "check", worker="fixity-checker", queue="dpn_restore_check_topic", staged=True
)
DELIVER = StageSpec(
    Task.RESTORE,
    "deliver",
    worker="restore-deliver",
    queue="dpn_restore_deliver_topic",
    staged=True,
    other_nodes_pace=True,
)

PIPELINE = Pipeline(
    Task.RESTORE,
    (RESTORE_READY, RESTORE_RETRIEVE, RESTORE_CHECK, DELIVER),
    manifest=RestoreManifest,
    endings=TransferEndings(),
    unlogged={"copied": {"receipt": {"part_sha256"}}},
)


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names; what it needs is imported only now."""
    from workers.restore.wiring import STAGES

    return STAGES[spec](services)
