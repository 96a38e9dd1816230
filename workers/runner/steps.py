"""What a worker does, a step at a time: each ends by itself, waits for nothing, and may be taken in any order.

Threads take them in production, a scheduler may take them one after the other. Everything raises SQLAlchemyError
while the database is away.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.database import Sessions, reading
from dpn.runtime import THREADS, Runtime
from dpn.work.leases import Claim, claim, due_items
from dpn.work.pipeline import StageSpec
from dpn.work.progress import StageProgress
from dpn.work.schedule import presence
from dpn.work.schedule.presence import Presence
from dpn.work.schedule.turns import next_in_turn
from models.work import DeadLetter, WorkItem
from workers.runner.lease_keeper import LeaseKeeper
from workers.runner.stage_runner import StageRunner

MAX_DEAD_LETTER_CHARACTERS = 1024
MAX_REASON_CHARACTERS = 255


@dataclass(frozen=True)
class Held:
    """An item that this worker has claimed and whose lease is kept; `cancellation` ends its work."""

    claim: Claim
    cancellation: Cancellation
    progress: StageProgress


@dataclass(frozen=True, kw_only=True)
class WorkerSteps:
    """See the module's docstring."""

    presence: Presence
    runner: StageRunner
    leases: LeaseKeeper
    sessions: Sessions
    lease_seconds: float
    clock: Clock
    slots_per_node: int = sys.maxsize
    """How many items one other node may have under way here at stages whose pace is that node's."""
    runtime: Runtime = THREADS
    _claiming: threading.Lock = field(default_factory=threading.Lock)

    # -- items ---------------------------------------------------------------------------------------------------

    def due(self, limit: int) -> list[int]:
        """Items that could be taken now: longest due first, then those whose turn it is at shared stages."""
        with reading(self.sessions) as session:
            found = due_items(
                session,
                stages=self._stages,
                volumes=self.presence.volumes,
                limit=limit,
                clock=self.clock,
                served=self._served(),
            )
            for spec in self._stages:
                if spec.shared and len(found) < limit:
                    left = limit - len(found)
                    chance = self.runner.jitter
                    found += next_in_turn(session, spec, limit=left, clock=self.clock, chance=chance)
            return found

    def take(self, item_id: int) -> Held | None:
        """Claims the item and keeps its lease from then on; None if it is not ours to take, or not now."""
        with self._claiming:  # or two at once would both find their node's last slot free
            asked_at = self.clock.monotonic()
            with self.sessions.begin() as session:
                claimed = claim(
                    session,
                    item_id,
                    worker=self.presence.worker_id,
                    stages=self._stages,
                    volumes=self.presence.volumes,
                    lease_seconds=self.lease_seconds,
                    clock=self.clock,
                    served=self._served(),
                )
            if claimed is None:
                return None
            held = Held(claimed, Cancellation(self.runtime), StageProgress(self.clock))
            self.leases.hold(claimed, held.cancellation, held.progress, claimed_at=asked_at)
            return held

    def perform(self, held: Held) -> None:
        """Runs the item's stage to its committed outcome, and gives the lease up."""
        try:
            self.runner.run(held.claim, held.cancellation, held.progress)
        finally:
            self.leases.release(held.claim)

    # -- messages ------------------------------------------------------------------------------------------------

    def is_known(self, item_id: int) -> bool:
        with reading(self.sessions) as session:
            return session.query(WorkItem.id).filter_by(id=item_id).one_or_none() is not None

    def bury(self, queue: str, body: bytes, reason: str) -> None:
        """Keeps a message that names no item of ours."""
        text = body.decode("ascii", "backslashreplace").replace("\0", "\\0")[:MAX_DEAD_LETTER_CHARACTERS]
        with self.sessions.begin() as session:
            session.add(
                DeadLetter(
                    topic=queue, body=text, reason=reason[:MAX_REASON_CHARACTERS], received_at=self.clock.now()
                )
            )

    # -- being there ---------------------------------------------------------------------------------------------

    def register(self) -> None:
        with self.sessions.begin() as session:
            presence.register(session, self.presence, clock=self.clock)

    def beat(self, state: str, running: int) -> None:
        with self.sessions.begin() as session:
            presence.beat(session, self.presence, state=state, running=running, clock=self.clock)

    def leave(self) -> None:
        with self.sessions.begin() as session:
            presence.leave(session, self.presence, clock=self.clock)

    def _served(self) -> set[str | None]:
        """The nodes that have all the slots here that one may have; None for all items that name none."""
        theirs = {(spec.task, spec.name) for spec in self._stages if spec.other_nodes_pace}
        running = Counter(held.remote_node for held in self.leases.claims() if (held.task, held.stage) in theirs)
        return {node for node, items in running.items() if items >= self.slots_per_node}

    @property
    def _stages(self) -> Collection[StageSpec]:
        return tuple(self.runner.stages)
