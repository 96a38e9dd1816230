"""Keeps one door going in a process: takes what comes, sends what is owed, finds back after every outage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dpn.clock import Clock
from dpn.database import DATABASE_AWAY, Sessions
from dpn.doors.door import Door, Gate, GateState
from dpn.doors.reception import Incoming, Intake, Reception, note_settled, receive
from dpn.errors import DpnError, ServiceUnavailable
from dpn.runtime import THREADS, Runtime, Work
from dpn.telemetry.logs import Log
from dpn.work.outbox import send_due

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
DATABASE_PAUSE_SECONDS = 1.0
SEND_SECONDS = 2.0
"""How often to look whether something is owed that nobody told us of: another process may have made it so."""
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class DoorState:
    """What an operator is shown of a door."""

    name: str
    state: str
    """`open`, `halted`, `closed`, or what keeps it from working."""
    depth: int | None
    received: int
    """Since the process started."""


class DoorKeeper:
    """See the module's docstring. `arrived` is called after each new item: somebody may look for it."""

    def __init__(
        self,
        door: Door,
        intake: Intake,
        *,
        sessions: Sessions,
        clock: Clock,
        log: Log,
        arrived: Callable[[], None] = lambda: None,
        runtime: Runtime = THREADS,
    ) -> None:
        self._door = door
        self._intake = intake
        self._sessions = sessions
        self._clock = clock
        self._log = log.bind(door=door.name)
        self._arrived = arrived
        self._runtime = runtime
        self._gate = Gate()
        self._something_owed = threading.Event()
        self._trouble: dict[str, str] = {}
        self._received = 0
        self._to_note: list[int] = []
        """Messages that the broker was told are ours, and whose rows do not say so yet."""
        self._work: list[Work] = []

    def start(self) -> None:
        self._work = [self._runtime.start(f"door {self._door.name}", self._keep_serving)]
        if self._door.answers:
            self._work.append(self._runtime.start(f"replies of door {self._door.name}", self._keep_sending))

    def halt(self) -> None:
        """Takes nothing new from now on; what is owed goes on being sent."""
        self._gate.set(GateState.HALTED)

    def resume(self) -> None:
        self._gate.set(GateState.OPEN)

    def stop(self) -> None:
        """Takes nothing any more, and ends both threads, for whose end it waits a moment."""
        self._gate.set(GateState.CLOSED)
        self._something_owed.set()
        for work in self._work:
            work.join(STOP_SECONDS)

    def send_now(self) -> None:
        """Something may be owed: looks at once."""
        self._something_owed.set()

    def state(self) -> DoorState:
        trouble = "; ".join(self._trouble.values())
        return DoorState(self._door.name, trouble or self._gate.state.value, self._door.depth(), self._received)

    # -- in ------------------------------------------------------------------------------------------------------

    def _keep_serving(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._gate.is_closed:
            began = self._clock.monotonic()
            try:
                self._door.serve(self._receive, self._note_settled, self._gate)
            except DpnError as error:
                self._tell("in", "a door cannot be reached: trying again", error)
            except Exception as error:  # noqa: BLE001  (a door whose thread has ended would look open)
                self._trouble["in"] = f"{type(error).__name__}: {error}"
                self._log.error("a door broke off", error=repr(error), exc_info=error)
            if self._clock.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._gate.wait_until(GateState.CLOSED, pause)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def _receive(self, incoming: Incoming) -> Reception | None:
        """Tries until the database has it; gives up only when the gate is no longer open."""
        while self._gate.is_open:
            try:
                if self._to_note:
                    self._note_settled([])
                received = receive(self._sessions, self._door.name, incoming, self._intake, clock=self._clock)
            except DATABASE_AWAY as error:
                self._tell("database", "the database is away: a message waits at a door", error)
                self._gate.wait_while_open(DATABASE_PAUSE_SECONDS)
                continue
            self._trouble.pop("database", None)
            self._trouble.pop("in", None)
            self._received += 1
            self._log.info(
                "message received", item=received.item_id, again=not received.is_new, bytes=len(incoming.body)
            )
            if received.item_id is not None:
                self._arrived()
            else:
                self.send_now()
            return received
        return None

    def _note_settled(self, received_ids: list[int]) -> None:
        """What cannot be noted now is noted with the next: until then another request in the same words, if it is
        delivered twice, would be taken for this one."""
        self._to_note += received_ids
        try:
            note_settled(self._sessions, self._to_note, clock=self._clock)
        except DATABASE_AWAY as error:
            self._log.warning("settled messages could not be noted", count=len(self._to_note), error=str(error))
        else:
            self._to_note = []

    # -- out -----------------------------------------------------------------------------------------------------

    def _keep_sending(self) -> None:
        while not self._gate.is_closed:
            try:
                if not send_due(self._sessions, self._door, clock=self._clock):
                    self._door.rest()
                self._trouble.pop("out", None)
            except (DpnError, *DATABASE_AWAY) as error:
                self._tell("out", "what is owed cannot be sent: trying again", error)
            except Exception as error:  # noqa: BLE001  (what is owed must be sent, whatever happened)
                self._trouble["out"] = f"{type(error).__name__}: {error}"
                self._log.error("sending broke off", error=repr(error), exc_info=error)
            self._something_owed.wait(SEND_SECONDS)
            self._something_owed.clear()
        self._door.close()

    def _tell(self, where: str, what: str, error: Exception) -> None:
        """Once for each outage; what it is can be seen in the state until it is over."""
        tell = self._log.debug if where in self._trouble else self._log.warning
        self._trouble[where] = error.reason if isinstance(error, ServiceUnavailable) else str(error)
        tell(what, error=str(error))
