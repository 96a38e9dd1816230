"""All pipelines of a node: a new one is a folder beside this file, and a line in `PACKAGES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dpn.work.pipeline import Pipeline, Pipelines, StageSpec
from workers import fixity, ingest, notice, recovery, replication, restore
from workers.notice import TELL

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage


class Package(Protocol):
    """What a pipeline's folder declares."""

    PIPELINE: Pipeline

    def build(self, spec: StageSpec, services: Services) -> Stage: ...


PACKAGES: tuple[Package, ...] = (
    replication,
    ingest,
    fixity,
    restore,
    recovery,
    notice,
)

PIPELINES = Pipelines(package.PIPELINE for package in PACKAGES)

WORKERS = tuple(dict.fromkeys(spec.worker for spec in PIPELINES.all_specs()))
"""What there is to start: one worker may run stages of several pipelines."""


def stages_of(worker: str) -> list[StageSpec]:
    """The stages of a worker, and telling peers what we owe them, which every worker does; empty for no worker."""
    specs = [spec for spec in PIPELINES.all_specs() if spec.worker == worker]
    return specs if TELL in specs or not specs else [*specs, TELL]


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names. Raises Misconfigured where the settings lack what it needs."""
    package = next(package for package in PACKAGES if package.PIPELINE.task == spec.task)
    return package.build(spec, services)
