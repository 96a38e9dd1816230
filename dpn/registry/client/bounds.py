"""Holds whole calls to a time and a number of bytes, down in the socket where nothing passes by.

A time-out of the usual kind is for a single read: a peer that sends a byte every few seconds, or headers, chunk
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

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


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

    def seconds_left(self) -> float:
        """Raises CallTooLong where there are none."""
        left = self.until - self.monotonic()
        if left <= 0:
            raise CallTooLong
        return left

    def received(self, count: int) -> None:
        """Raises AnswerTooLarge when it was one too many."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise AnswerTooLarge


_bounds: ContextVar[Bounds | None] = ContextVar("bounds of this thread's call", default=None)


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """What this thread does with sockets of a `BoundedAdapter` meanwhile is held to `bounds`."""
    token = _bounds.set(bounds)
    try:
        yield
    finally:
        _bounds.reset(token)


class BoundedAdapter(HTTPAdapter):
    """requests' adapter, its connections bounded."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _BoundedHttpPool, "https": _BoundedHttpsPool}


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

    def makefile(self, mode: str, buffering: int = -1) -> io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"HTTP reads with mode rb, not {mode}")
        raw = cast("io.RawIOBase", self._wrapped.makefile("rb", buffering=0))
        return io.BufferedReader(_BoundedReader(self, raw))

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

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._owner.limit_next_step()
        count = self._raw.readinto(buffer)
        bounds = _bounds.get()
        if bounds is not None and count:
            bounds.received(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _BoundedHttp(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = cast("socket.socket", _BoundedSocket(cast("socket.socket", self.sock)))


class _BoundedHttps(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = cast("socket.socket", _BoundedSocket(cast("socket.socket", self.sock)))


class _BoundedHttpPool(HTTPConnectionPool):
    ConnectionCls = _BoundedHttp


class _BoundedHttpsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedHttps
