"""Ways a fetch can fail that a caller may want to tell apart; all of them may well work next time."""

from __future__ import annotations

from dpn.errors import TransientError


class SourceMissing(TransientError):
    """The peer does not have the file that its link names, or not as a plain file: it may not be there yet."""


class SourceTooLarge(TransientError):
    """The peer's file is larger than the transfer allows. `seen_bytes` is its size as far as it is known."""

    def __init__(self, seen_bytes: int, max_bytes: int) -> None:
        super().__init__(f"the peer's file has at least {seen_bytes} bytes, at most {max_bytes} are expected")
        self.seen_bytes = seen_bytes
        self.max_bytes = max_bytes
