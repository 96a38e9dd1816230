"""The ingest pipeline: package, store, record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.work.pipeline import Pipeline, StageSpec
from models.manifests import IngestManifest
from models.work import Task
from workers.ingest.ending import DepositEndings

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage

PACKAGE = StageSpec(Task.INGEST, "package", worker="package", queue="dpn_package_topic", stages=True)
INGEST_STORE = StageSpec(
    Task.INGEST, "store", worker="ingest-store", queue="dpn_ingest_store_topic", staged=True, uploads=True
)
INGEST_RECORD = StageSpec(Task.INGEST, "record", worker="ingest-record", queue="dpn_record_topic", staged=True)

PIPELINE = Pipeline(
    Task.INGEST,
    (PACKAGE, INGEST_STORE, INGEST_RECORD),
    manifest=IngestManifest,
    endings=DepositEndings(),
    unlogged={"receipt": {"part_sha256"}},
)


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names; what it needs is imported only now."""
    from workers.ingest.wiring import STAGES

    return STAGES[spec](services)
