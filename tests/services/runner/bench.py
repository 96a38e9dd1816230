"""A StageRunner on a real database with a clock that moves when told to: one run of one stage at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import select

from dpn.broker import BrokerUnavailable
from dpn.cancellation import Cancellation
from dpn.clock import ManualClock
from dpn.database import Sessions, insert_missing, reading
from dpn.telemetry.metrics import WorkerMetrics
from dpn.work import leases
from dpn.work.items import new_item
from dpn.work.leases import Claim
from dpn.work.lifecycle import Policy
from dpn.work.outcomes import Outcome
from models.manifests import ReplicationManifest
from models.work import AuditEvent, DispatchIntent, Task, WorkItem
from workers.pipelines import PIPELINES
from workers.stage import Job
from workers.stage_run import StageRunner

LEASE_SECONDS = 60.0
POLICY = Policy(attempts=3, backoff_first_seconds=30, backoff_max_seconds=600, attention_after_seconds=86_400)

Behaviour = Callable[[Job[Any]], Outcome]


class Messages:
    """A broker that keeps what it is given, or refuses it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, int]] = []
        self.down = False

    def publish(self, topic: str, *item_ids: int) -> None:
        if self.down:
            raise BrokerUnavailable("no nsqd took the message")
        self.published += [(topic, item_id) for item_id in item_ids]


@dataclass
class OneStage:
    """A stage that behaves as the test says."""

    name: str
    behaviour: Behaviour

    def run(self, job: Job[Any]) -> Outcome:
        return self.behaviour(job)


@dataclass
class Bench:
    """See the module's docstring."""

    sessions: Sessions
    clock: ManualClock = field(default_factory=ManualClock)
    broker: Any = field(default_factory=Messages)
    ended: list[tuple[int, str]] = field(default_factory=list)

    def make_item(self, number: int = 1, **values: Any) -> int:
        row = new_item(
            task=Task.REPLICATION,
            identifier=f"00000000-0000-4000-a000-{number:012d}",
            remote_node="north",
            note="requested by north",
            manifest=ReplicationManifest().model_dump(mode="json"),
            pipelines=PIPELINES,
            clock=self.clock,
        )
        with self.sessions.begin() as session:
            assert insert_missing(session, WorkItem, [{**row, **values}]) == 1
            return session.scalars(select(WorkItem.id).where(WorkItem.identifier == row["identifier"])).one()

    def claim(self, item: int, worker: str = "a") -> Claim:
        with self.sessions.begin() as session:
            held = leases.claim(
                session,
                item,
                worker=worker,
                stages=PIPELINES.all_specs(),
                volumes=["a"],
                lease_seconds=LEASE_SECONDS,
                clock=self.clock,
            )
        assert held is not None, "the item cannot be claimed"
        return held

    def run(
        self,
        item: int,
        behaviour: Behaviour,
        *,
        cancellation: Cancellation | None = None,
        claim: Claim | None = None,
    ) -> WorkItem:
        """Claims the item, runs its stage so, and answers the item as it is afterwards."""
        held = claim or self.claim(item)
        self.runner(held.stage, behaviour).run(held, cancellation or Cancellation())
        return self.item(item)

    def runner(self, stage: str, behaviour: Behaviour) -> StageRunner:
        return StageRunner(
            stages={spec: OneStage(spec.name, behaviour) for spec in PIPELINES.all_specs()},
            sessions=self.sessions,
            broker=self.broker,
            pipelines=PIPELINES,
            policy=POLICY,
            clock=self.clock,
            jitter=lambda: 0.5,
            worker_id="host/test/1",
            log=structlog.wrap_logger(
                structlog.ReturnLogger(), processors=[lambda _logger, _name, event: str(event)]
            ),
            metrics=WorkerMetrics(),
            ended=lambda claim, _manifest, change: self.ended.append((claim.item_id, change.status.value)),
        )

    def item(self, item: int) -> WorkItem:
        with reading(self.sessions) as session:
            return session.get_one(WorkItem, item)

    def due_in(self, item: int) -> float:
        """Seconds until the item is due."""
        return (self.item(item).run_after - self.clock.now()).total_seconds()

    def notices(self) -> Sequence[WorkItem]:
        with reading(self.sessions) as session:
            return session.scalars(select(WorkItem).where(WorkItem.task == Task.NOTICE)).all()

    def intents(self) -> list[tuple[str, int]]:
        with reading(self.sessions) as session:
            return [(row.topic, row.item_id) for row in session.scalars(select(DispatchIntent))]

    def events(self, item: int) -> list[AuditEvent]:
        with reading(self.sessions) as session:
            return list(
                session.scalars(select(AuditEvent).where(AuditEvent.item_id == item).order_by(AuditEvent.id))
            )
