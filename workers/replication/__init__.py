"""The replication pipeline: copy, validate, store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.work.pipeline import Pipeline, StageSpec
from models.manifests import ReplicationManifest
from models.work import Task
from workers.cancellations import TransferEndings

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage

COPY = StageSpec(
    Task.REPLICATION, "copy", worker="copy", queue="dpn_copy_topic", stages=True, other_nodes_pace=True
)
VALIDATE = StageSpec(Task.REPLICATION, "validate", worker="validate", queue="dpn_validation_topic", staged=True)
STORE = StageSpec(
    Task.REPLICATION,
    "store",
    worker="replication-store",
    queue="dpn_replication_store_topic",
    staged=True,
    other_nodes_pace=True,
    uploads=True,
)

PIPELINE = Pipeline(
    Task.REPLICATION,
    (COPY, VALIDATE, STORE),
    manifest=ReplicationManifest,
    endings=TransferEndings(),
    unlogged={"receipt": {"part_sha256"}},
)


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names; what it needs is imported only now."""
    from workers.replication.wiring import STAGES

    return STAGES[spec](services)
