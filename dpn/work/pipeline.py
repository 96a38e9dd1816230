"""Which stages a task goes through, and where each is announced; pure values, filled in by `workers.pipelines`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.work import Task

NSQ_TOPIC_MAX_CHARACTERS = 64


@dataclass(frozen=True)
class StageSpec:
    """One stage of one task. `stages`: it puts bytes on a staging volume; `staged`: it reads what lies there."""

    task: Task
    name: str
    worker: str
    """What `dpn worker …` calls it."""
    topic: str
    stages: bool = False
    staged: bool = False

    @property
    def channel(self) -> str:
        return self.topic.removesuffix("_topic") + "_channel"

    @property
    def may_lie_on_volume(self) -> bool:
        """Whether an item of this stage may be bound to the workers that mount a volume."""
        return self.stages or self.staged

    def topic_on(self, volume: str | None) -> str:
        """The topic that announces an item of this stage: the volume's own if the item lies on one."""
        return self.topic if volume is None else f"{self.topic}.{volume}"

    def topics(self, volumes: Iterable[str]) -> list[str]:
        """Every topic that a worker of this stage which mounts `volumes` must hear."""
        return [self.topic, *(self.topic_on(volume) for volume in sorted(volumes))]


@dataclass(frozen=True)
class Pipelines:
    """All tasks with their stages in order."""

    stages: Mapping[Task, tuple[StageSpec, ...]]

    def spec(self, task: str, stage: str) -> StageSpec:
        """Raises KeyError for a stage that the task does not have."""
        for spec in self.stages[Task(task)]:
            if spec.name == stage:
                return spec
        raise KeyError(f"task {task} has no stage {stage}")

    def first(self, task: Task) -> StageSpec:
        return self.stages[task][0]

    def after(self, task: str, stage: str) -> StageSpec | None:
        """The stage that follows; none after the last."""
        specs = self.stages[Task(task)]
        index = next(i for i, spec in enumerate(specs) if spec.name == stage)
        return specs[index + 1] if index + 1 < len(specs) else None

    def staging_stage(self, task: str) -> StageSpec:
        """The stage that puts the task's bytes on a staging volume: where an item starts over if they are lost.

        Raises StopIteration for a task that stages nothing.
        """
        return next(spec for spec in self.stages[Task(task)] if spec.stages)

    def all_specs(self) -> list[StageSpec]:
        return [spec for specs in self.stages.values() for spec in specs]
