"""The ways a job can fail, as types a caller can act on. The text of each tells an operator what to do next.

DpnError
├── ServiceUnavailable      wait: a peer or store is down or refuses everyone; never the item's fault
│   ├── PeerUnavailable
│   └── StoreUnavailable
│       ├── StoreTimeout    it did not answer, or not to the end, in the time that a call may take
│       └── StoreFull       it has no room, or our quota there is used up
├── LocalTrouble            wait and call for an operator: this machine or its settings failed, never the item
│   ├── Misconfigured       no number of retries will help
│   │   └── AccessRefused   credentials or permissions: who we are may not do this, or is not known there
│   ├── StoreFailed         our own store answers, and does not do what it is there for
│   └── NoSpace             wait: the staging volume has no room now
├── Interrupted             stop at once: the worker is being stopped or has lost its lease
│   └── LeaseLost
├── TransientError          retry: counts as an attempt
│   ├── SourceChanged       what is read changed meanwhile: begun again from scratch
│   ├── StoreMismatch       the store holds, or sends, something else than it should
│   ├── StoreMissing        the store has no such object
│   └── StoreCold           the object must be restored from cold storage before it can be read
└── PermanentError          fail: the same input will fail again
    ├── ObjectExists        what must not be replaced lies under the key
    ├── PeerRefused         the owner's registry refused a request for good (400, 404, 409)
    ├── LinkRefused         a transfer's link is hostile or points where it may not
    └── NotABag             the file cannot be read as a bag at all
"""

from __future__ import annotations


class DpnError(Exception):
    """Base of every failure that we name."""


class ServiceUnavailable(DpnError):
    """An outside service is down, slow or talks nonsense. `service` names its breaker, e.g. `peer:north`."""

    def __init__(self, service: str, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{service} is unavailable: {reason}")
        self.service = service
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class PeerUnavailable(ServiceUnavailable):
    """Another node cannot be reached or answers nonsense. Nothing to do here; it is asked again."""


class StoreUnavailable(ServiceUnavailable):
    """A store of objects cannot be reached, is overloaded or answers nonsense. It is asked again."""


class StoreTimeout(StoreUnavailable):
    """A store did not answer in the time that a call may take. Whether it did what was asked is not known."""


class StoreFull(StoreUnavailable):
    """A store has no room for more: free or add some, or have the quota raised; the work goes on by itself."""


class LocalTrouble(DpnError):
    """This machine cannot do its part: see to it; the work goes on by itself afterwards."""


class Misconfigured(LocalTrouble):
    """Settings, credentials or permissions are wrong: repair them; the work goes on by itself afterwards."""


class AccessRefused(Misconfigured):
    """Credentials are wrong or not enough: correct them, or allow what is asked; the work goes on afterwards."""


class StoreFailed(LocalTrouble):
    """Our own store does not take or keep what it is given: look at it; the work goes on by itself afterwards."""


class NoSpace(LocalTrouble):
    """The staging volume has no room: free space or raise the limit; the work goes on by itself afterwards."""


class Interrupted(DpnError):
    """The worker is stopping: leave everything so that another worker can go on."""


class LeaseLost(Interrupted):
    """Another worker may hold this item now: change nothing more."""


class TransientError(DpnError):
    """Something that may well work next time."""


class SourceChanged(TransientError):
    """The source changed while it was read: nothing of it is kept, and it is read again from scratch."""


class StoreMismatch(TransientError):
    """The store holds other bytes than were sent, or sends others than it holds: they do not count."""


class StoreMissing(TransientError):
    """The store answers, the bucket or folder is there, the object is not: look for who removed it."""


class StoreCold(TransientError):
    """The object is in cold storage: ask for its restore first, then read it."""


class PermanentError(DpnError):
    """The same input will fail again."""


class ObjectExists(PermanentError):
    """Something lies under the key that was not to be replaced: move it away, or allow replacing it."""


class PeerRefused(PermanentError):
    """Another node's registry refused a request for good."""

    def __init__(self, peer: str, status: int, message: str) -> None:
        super().__init__(f"{peer} refused with HTTP {status}: {message}")
        self.peer = peer
        self.status = status
        self.message = message


class LinkRefused(PermanentError):
    """A transfer's link is hostile, or points to a place that this peer may not name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotABag(PermanentError):
    """The file cannot be read as a bag at all."""
