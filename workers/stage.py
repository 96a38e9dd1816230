"""The stage contract: what a stage is given, what it answers, and what it may rely on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from dpn.audit.trail import Event, EventType
from dpn.cancellation import Cancellation
from dpn.clock import Clock
from dpn.telemetry.logs import Log
from dpn.work import outbox
from dpn.work import steps as work_steps
from dpn.work.leases import Claim
from dpn.work.outcomes import Outcome
from dpn.work.progress import StageProgress
from dpn.work.steps import Step
from dpn.work.transitions import Write
from models.manifests import ItemManifest

M = TypeVar("M", bound=ItemManifest)


@dataclass
class Job(Generic[M]):
    """One run of a stage on one item that this worker holds.

    The stage changes `manifest` and `staging_volume` as it goes; `save` makes what it has reached survive a crash.
    Everything is written when the stage answers, too. A stage must end in the same state however often it runs.
    """

    claim: Claim
    manifest: M
    cancellation: Cancellation
    progress: StageProgress
    """Is told how far the stage is, as often as it likes."""
    log: Log
    staging_volume: str | None
    _persist: Callable[[Job[Any], str], None]
    _check_held: Callable[[], None]
    _clock: Clock
    note: str = ""
    events: list[Event] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def save(self, note: str | None = None) -> None:
        """Persists manifest, volume, note, events and writes. Raises LeaseLost: then change nothing more."""
        self.note = self.note if note is None else note
        self._persist(self, self.note)
        self.events.clear()
        self.writes.clear()

    def fence(self) -> None:
        """Raises LeaseLost unless we hold the item at this moment: ask before a step that others can see."""
        self.cancellation.check()
        self._check_held()

    def add_event(self, event_type: EventType, object_id: str, outcome: str, **detail: Any) -> None:
        """Adds to the audit trail, in the transaction of the next save or of the stage's end."""
        self.events.append(Event(event_type, object_id, outcome, detail, self.claim.item_id))

    def add_write(self, write: Write) -> None:
        """Has `write` done in the transaction of the next save or of the stage's end, while we hold the item; done
        twice, it must come to the same."""
        self.writes.append(write)

    def add_steps(self, steps: Sequence[Step]) -> None:
        """Adds steps to the item with the next save: save for every thousand or so, they wait in memory."""
        self.add_write(lambda session: work_steps.add(session, self.claim.item_id, steps, self._clock))

    def settle(self, steps: Sequence[Step]) -> None:
        """Writes down with the next save how these steps stand now."""
        self.add_write(lambda session: work_steps.settle(session, self.claim.item_id, steps, self._clock))

    def owe(self, *, key: str, destination: str, body: str) -> None:
        """Owes a message outside from the next save on; one of that key is sent once."""
        item_id, clock = self.claim.item_id, self._clock
        self.add_write(
            lambda session: outbox.owe(
                session, key=key, destination=destination, body=body, item_id=item_id, clock=clock
            )
        )


class Stage(Protocol):
    """One thing done to an item. Exceptions that it does not handle are transient: `workers.runner`."""

    @property
    def name(self) -> str: ...

    def run(self, job: Job[Any]) -> Outcome:
        """Does the stage's one thing and says how it went."""
        ...
