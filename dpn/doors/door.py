"""What all doors have in common: a gate that says whether they take messages, and the calls that they answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from dpn.doors.reception import Incoming, Reception

Receive = Callable[[Incoming], Reception | None]
"""Makes rows of a message and returns once they are committed; None: not now, the broker shall keep it. May take
as long as the database is away: never called where that would let a connection die."""

Settled = Callable[[list[int]], None]
"""Notes that the broker has been told so of these received messages."""


class GateState(StrEnum):
    """Whether messages are taken."""

    OPEN = "open"
    HALTED = "halted"
    """Nothing new is taken; connections may stay."""
    CLOSED = "closed"
    """For good: the process stops."""


class Gate:
    """Whether a door takes messages at this moment. Thread-safe."""

    def __init__(self) -> None:
        self._state = GateState.OPEN
        self._changed = threading.Condition()

    @property
    def state(self) -> GateState:
        return self._state

    @property
    def is_open(self) -> bool:
        return self._state is GateState.OPEN

    @property
    def is_closed(self) -> bool:
        return self._state is GateState.CLOSED

    def set(self, state: GateState) -> None:
        """What is closed stays closed."""
        with self._changed:
            if self._state is not GateState.CLOSED:
                self._state = state
            self._changed.notify_all()

    def wait_until(self, state: GateState, seconds: float) -> bool:
        """Waits until it is so; false if it is not within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is state, seconds)

    def wait_while_open(self, seconds: float) -> bool:
        """Waits so long; false as soon as it is no longer open."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._state is not GateState.OPEN, seconds)


class Door(Protocol):
    """The way to and from one queue of a broker outside. `serve` and `send` are called from two threads."""

    name: str
    destination: str
    """What owed messages are addressed to that go out here."""
    answers: bool
    """Whether anything can be sent."""

    def serve(self, receive: Receive, settled: Settled, gate: Gate) -> None:
        """Takes messages while the gate is open, each settled after `receive` has returned, and returns once it is
        closed. Raises ServiceUnavailable if the broker is away or broke off: then it is called again."""
        ...

    def send(self, body: str) -> None:
        """Sends one message and returns once the broker has it. Raises ServiceUnavailable, TransientError."""
        ...

    def rest(self) -> None:
        """Called now and then while there is nothing to send: keeps the connection, or lets it go."""
        ...

    def depth(self) -> int | None:
        """About how many messages wait to be taken; None if that is not known."""
        ...

    def close(self) -> None:
        """Lets go of what `send` has open."""
        ...
