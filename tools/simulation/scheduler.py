"""Decides by a seed who does what next, who dies and whose answer is lost; the same seed, the same story.

Everything happens in the caller's thread: an actor is a step that ends by itself (a worker's next item, a look at
the leases, a peer's decision), and whatever would wait lets the others act meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from dpn.clock import ManualClock

T = TypeVar("T")
R = TypeVar("R")

MAX_NESTED = 3
"""How deep those that act while another waits may be nested: after that, only time passes."""


class Killed(BaseException):
    """The process of the actor is gone, as after kill -9: nothing may catch this but the scheduler."""


@dataclass
class Actor:
    """Somebody who does something when it is chosen. `revive` is called after its death, before its next step."""

    name: str
    step: Callable[[], str | None]
    """Returns what it did, in words, or None for nothing."""
    revive: Callable[[], None] = lambda: None
    mortal: bool = True


class Scheduler:
    """A `dpn.runtime.Runtime` in one thread. `chance_of_death` is that of each moment of a mortal actor."""

    def __init__(self, seed: int, clock: ManualClock, *, chance_of_death: float, chance_of_loss: float) -> None:
        self.clock = clock
        self.trace: list[str] = []
        self._random = random.Random(seed)  # noqa: S311  (a story that can be told again, no secret)
        self._chance_of_death = chance_of_death
        self._chance_of_loss = chance_of_loss
        self._actors: list[Actor] = []
        self._acting: list[Actor] = []
        self.calm = False
        """Whether nobody dies and nothing is lost any more."""

    def add(self, actor: Actor) -> None:
        self._actors.append(actor)

    def turn(self) -> None:
        """One step of one actor, or time passes."""
        idle = [actor for actor in self._actors if actor not in self._acting]
        choice = self._random.randrange(len(idle) + 1)
        if choice == len(idle):
            self.pass_time(self._random.choice((1.0, 20.0, 90.0, 400.0)))
            return
        self._act(idle[choice])

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def moment(self, name: str) -> None:
        """A moment at which the acting process may die."""
        if self._acting and self._acting[-1].mortal and not self.calm and self.chance() < self._chance_of_death:
            raise Killed(name)

    def loses(self) -> bool:
        """Whether the answer that is on its way now is lost."""
        return not self.calm and self.chance() < self._chance_of_loss

    def say(self, text: str) -> None:
        self.trace.append(f"{self.clock.monotonic():.0f} {text}")

    def _act(self, actor: Actor) -> None:
        self._acting.append(actor)
        try:
            did = actor.step()
        except Killed as death:
            self.say(f"{actor.name} dies at {death}")
            actor.revive()
        else:
            if did is not None:
                self.say(f"{actor.name} {did}")
        finally:
            self._acting.pop()

    # -- a runtime -----------------------------------------------------------------------------------------------

    def event(self) -> Waited:
        return Waited(self)

    def start(self, name: str, work: Callable[[], None]) -> Over:
        """At once and to its end: what goes on for ever is an actor here, taken step by step."""
        work()
        return Over()

    @contextmanager
    def pool(self, size: int, name: str) -> Iterator[OneByOne]:
        yield OneByOne()

    def sleep(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while len(self._acting) < MAX_NESTED and self.clock.monotonic() < until:
            self.turn()
        self.clock.advance(max(0.0, until - self.clock.monotonic()))

    def new_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def secret(self, number_of_bytes: int) -> str:
        return self._random.randbytes(number_of_bytes).hex()

    def chance(self) -> float:
        return self._random.random()


class Waited:
    """An event; whoever waits for it lets the others act."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._scheduler.sleep(1.0 if timeout is None else timeout)
        return self._is_set


class Over:
    """Work that is over as soon as it has begun."""

    def join(self, timeout: float | None = None) -> None:
        """Nothing is left to wait for."""


class OneByOne:
    """A pool of one: each piece of work when its turn comes."""

    def map(self, function: Callable[[T], R], values: Iterable[T], /) -> Iterator[R]:
        return map(function, values)
