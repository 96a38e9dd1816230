"""One part of something that can be read as the body of a request, which can be sent again and broken off."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from dpn.s3.plan import Part

SEND_BYTES = 256 * 1024
"""How much goes to the socket at a time: HTTP clients ask for 16 KiB, which costs more in calls than in copies."""


class Readable(Protocol):
    """Something that can be read anywhere, by several threads at once."""

    def read(self, offset: int, size: int) -> bytes:
        """Between one and `size` bytes at `offset`."""
        ...


class SliceBody:
    """One part of a source as the body of a request: a seekable file of its own.

    `check` is called before every read, so that raising from it breaks the request off between two buffers. HTTP
    clients wrap what a body raises, or take it for the connection's failure: `failure` keeps it as it was.
    """

    def __init__(self, source: Readable, part: Part, check: Callable[[], None]) -> None:
        self._source = source
        self._part = part
        self._check = check
        self._position = 0
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes; up to SEND_BYTES even when fewer are asked for, which senders take gladly."""
        try:
            self._check()
            return self._next(size)
        except Exception as error:
            self.failure = error
            raise

    def _next(self, size: int) -> bytes:
        left = self._part.size - self._position
        if left <= 0:
            return b""
        wanted = left if size < 0 else min(left, max(size, SEND_BYTES))
        data = self._source.read(self._part.offset + self._position, wanted)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position
