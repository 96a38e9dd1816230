"""Ways in which getting a bag back can fail that a caller may want to tell apart."""

from __future__ import annotations

from dpn.errors import PermanentError, TransientError


class RequestRefused(PermanentError):
    """A request for a bag cannot be made or moved on; the text says why and what to do."""


class NotOffered(TransientError):
    """The node that was asked has not said yet where the bag lies: ask again later."""
