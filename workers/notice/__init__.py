"""The notice pipeline: a peer is told what we owe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpn.work.pipeline import Pipeline, StageSpec
from models.manifests import NoticeManifest
from models.work import Task
from workers.notice.ending import NoticeEndings

if TYPE_CHECKING:
    from workers.runner.services import Services
    from workers.stage import Stage

TELL = StageSpec(Task.NOTICE, "tell", worker="tell", queue="dpn_tell_topic", other_nodes_pace=True)
"""Every worker runs it beside its own stages: what we owe a peer needs no worker of its own."""

PIPELINE = Pipeline(Task.NOTICE, (TELL,), manifest=NoticeManifest, endings=NoticeEndings())


def build(spec: StageSpec, services: Services) -> Stage:
    """The stage that `spec` names; what it needs is imported only now."""
    from workers.notice.wiring import STAGES

    return STAGES[spec](services)
