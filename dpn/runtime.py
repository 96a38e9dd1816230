"""What runs beside what in a process, and how it waits: threads in production, turns under a simulator.

Nothing that holds a promise starts a thread or waits by itself; it asks the runtime that it was given. So the same
code runs on real threads, or one piece at a time, in an order that a seed decides.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar
from uuid import uuid4

T = TypeVar("T")
R = TypeVar("R")


class Signal(Protocol):
    """Something that is set once, and waited for."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Waits up to so many seconds; returns whether it is set."""
        ...


class Work(Protocol):
    """Something that was started."""

    def join(self, timeout: float | None = None) -> None:
        """Waits up to so many seconds for its end."""
        ...


class Pool(Protocol):
    """So many pieces of work at once, of as many as one likes."""

    def map(self, function: Callable[[T], R], values: Iterable[T], /) -> Iterator[R]:
        """What the function makes of each value, in their order; raises what it raises."""
        ...


class Runtime(Protocol):
    """See the module's docstring."""

    def event(self) -> Signal: ...

    def start(self, name: str, work: Callable[[], None]) -> Work:
        """Starts the work beside what runs; the process does not wait for it when it ends."""
        ...

    def pool(self, size: int, name: str) -> AbstractContextManager[Pool]:
        """At most `size` at once; ended by leaving the context."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def new_id(self) -> str:
        """A new UUID, version 4."""
        ...

    def secret(self, number_of_bytes: int) -> str:
        """So many bytes that nobody can guess, in hexadecimal."""
        ...

    def chance(self) -> float:
        """A number of [0, 1), to keep processes out of step."""
        ...


class Threads:
    """The machine's threads, waits and chance."""

    def event(self) -> threading.Event:
        return threading.Event()

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    @contextmanager
    def pool(self, size: int, name: str) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(size, thread_name_prefix=name) as pool:
            yield pool

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def new_id(self) -> str:
        return str(uuid4())

    def secret(self, number_of_bytes: int) -> str:
        return secrets.token_hex(number_of_bytes)

    def chance(self) -> float:
        return secrets.SystemRandom().random()


THREADS = Threads()
