"""Holds whole HTTP calls to a time and a number of bytes, down in the socket where nothing passes by.

A time-out of the usual kind is for a single read: a server that sends a byte every few seconds, or headers, chunk
sizes or trailers without end, is held by none. Here each read may last only as long as the call has left.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from urllib3 import HTTPConnectionPool

MAX_READS_AT_THE_END = 16
"""HTTP libraries look for more a few times; one that looks for a line that never comes would do so for ever."""


class CallTooLong(Exception):
    """The call took all the time that it had. No OSError: HTTP libraries must not take it for one read's."""


class AnswerTooLarge(Exception):
    """The answer, headers included, had more bytes than the call allows."""


@dataclass
class Bounds:
    """What one call may still use."""

    monotonic: Callable[[], float]
    until: float
    bytes_left: int
    check: Callable[[], None] = lambda: None
    """Called before each read and write; what it raises ends the call."""

    def seconds_left(self) -> float:
        """Raises CallTooLong where there are none."""
        self.check()
        left = self.until - self.monotonic()
        if left <= 0:
            raise CallTooLong("it took all the time that it may take")
        return left

    def received(self, count: int) -> None:
        """Raises AnswerTooLarge when it was one too many."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise AnswerTooLarge("the answer has more bytes than it may have")


_bounds: ContextVar[Bounds | None] = ContextVar("bounds of this thread's call", default=None)


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """What this thread does with connections of `bounded_pools` meanwhile is held to `bounds`."""
    token = _bounds.set(bounds)
    try:
        yield
    finally:
        _bounds.reset(token)


def bounded_pools(*pools: type[HTTPConnectionPool]) -> dict[str, type[HTTPConnectionPool]]:
    """Pools of urllib3 like these, by their scheme, whose connections can be held to bounds."""
    return {
        pool.scheme or "": type(pool.__name__, (pool,), {"ConnectionCls": _connections(pool)}) for pool in pools
    }


def _connections(pool: type[HTTPConnectionPool]) -> type:
    return type(pool.ConnectionCls.__name__, (_Bounded, pool.ConnectionCls), {})


class _Bounded:
    """What makes a connection of urllib3 a bounded one, as the first of its bases."""

    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock = _BoundedSocket(self.sock)


class _BoundedSocket:
    """A connected socket (TLS or not) whose reads and writes keep to the bounds of the running call."""

    def __init__(self, wrapped: socket.socket) -> None:
        self._wrapped = wrapped
        self._timeout = wrapped.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds
        self._wrapped.settimeout(seconds)

    def sendall(self, data: Any) -> None:
        self.limit_next_step()
        self._wrapped.sendall(data)

    def makefile(self, mode: str, buffering: int = -1) -> io.RawIOBase | io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"HTTP reads with mode rb, not {mode}")
        reader = _BoundedReader(self, cast("io.RawIOBase", self._wrapped.makefile("rb", buffering=0)))
        return io.BufferedReader(reader) if buffering else reader

    def limit_next_step(self) -> None:
        bounds = _bounds.get()
        if bounds is not None:
            left = bounds.seconds_left()
            self._wrapped.settimeout(left if self._timeout is None else min(left, self._timeout))


class _BoundedReader(io.RawIOBase):
    """The reading end of a bounded socket."""

    def __init__(self, owner: _BoundedSocket, raw: io.RawIOBase) -> None:
        self._owner = owner
        self._raw = raw
        self._reads_at_the_end = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._owner.limit_next_step()
        count = self._raw.readinto(buffer)
        self._reads_at_the_end += count == 0
        if self._reads_at_the_end > MAX_READS_AT_THE_END:
            raise ConnectionResetError("the server hung up in the middle of its answer")
        bounds = _bounds.get()
        if bounds is not None and count:
            bounds.received(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
