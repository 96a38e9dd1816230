"""What the core knows of a pipeline: its stages in order, what its items carry, what their ends owe.

Pure values; each pipeline declares its own, and `workers.pipelines` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.manifests import ItemManifest

if TYPE_CHECKING:
    from dpn.work.endings import Endings


@dataclass(frozen=True)
class StageSpec:
    """One stage of one task."""

    task: str
    name: str
    worker: str
    """What `dpn worker …` calls it."""
    queue: str
    """What announces its items to workers; see dpn.broker."""
    stages: bool = False
    """Whether it puts bytes on a staging volume."""
    staged: bool = False
    """Whether it reads what lies on a staging volume."""
    other_nodes_pace: bool = False
    """Whether another node, asked there or fetched from, decides how long it takes: none may hold all slots of a
    worker. Items that name no node count together as one's."""
    shared: bool = False
    """Whether its items have requesters that share its workers: each has its turn (`dpn.work.schedule.turns`)."""
    uploads: bool = False
    """Whether its items may own an upload, named in the manifest, that the store's janitor leaves alone."""

    def __post_init__(self) -> None:
        if self.shared and self.may_lie_on_volume:
            raise ValueError(f"stage {self.name}: turns do not know of volumes: a shared stage stages nothing")

    @property
    def may_lie_on_volume(self) -> bool:
        """Whether an item of this stage may be bound to the workers that mount a volume."""
        return self.stages or self.staged

    def queue_on(self, volume: str | None) -> str:
        """The queue that announces an item of this stage: the volume's own if the item lies on one."""
        return self.queue if volume is None else f"{self.queue}.{volume}"

    def queues(self, volumes: Iterable[str]) -> list[str]:
        """Every queue that a worker of this stage which mounts `volumes` must hear."""
        return [self.queue, *(self.queue_on(volume) for volume in sorted(volumes))]


@dataclass(frozen=True)
class Pipeline:
    """One task: the stages that its items go through, in order, and what the core must know of these items."""

    task: str
    stages: tuple[StageSpec, ...]
    manifest: type[ItemManifest]
    endings: Endings
    unlogged: Mapping[str, Any] = field(default_factory=dict)
    """What of the manifest log lines leave out, as pydantic's `exclude` takes it: lists that grow with a bag."""


class Pipelines:
    """All pipelines of a node, by their tasks."""

    def __init__(self, pipelines: Iterable[Pipeline]) -> None:
        self._by_task = {pipeline.task: pipeline for pipeline in pipelines}

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self._by_task)

    def of(self, task: str) -> Pipeline:
        """Raises KeyError for a task that no pipeline of ours has."""
        return self._by_task[task]

    def spec(self, task: str, stage: str) -> StageSpec:
        """Raises KeyError for a stage that the task does not have."""
        for spec in self._by_task[task].stages:
            if spec.name == stage:
                return spec
        raise KeyError(f"task {task} has no stage {stage}")

    def first(self, task: str) -> StageSpec:
        return self._by_task[task].stages[0]

    def after(self, task: str, stage: str) -> StageSpec | None:
        """The stage that follows, or None after the last."""
        specs = self._by_task[task].stages
        index = next(i for i, spec in enumerate(specs) if spec.name == stage)
        return specs[index + 1] if index + 1 < len(specs) else None

    def staging_stage(self, task: str) -> StageSpec:
        """The stage that puts the task's bytes on a staging volume: where an item starts over if they are lost.

        Raises StopIteration for a task that stages nothing.
        """
        return next(spec for spec in self._by_task[task].stages if spec.stages)

    def all_specs(self) -> list[StageSpec]:
        return [spec for pipeline in self._by_task.values() for spec in pipeline.stages]

    def read_manifest(self, task: str, stored: Any) -> ItemManifest:
        """What an item of `task` carries. Raises ManifestUnreadable; KeyError for a task that is not ours."""
        return self._by_task[task].manifest.read(stored)
