"""How a stage may end. A stage answers one of these; what follows from it is decided in `dpn.work.lifecycle`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_CANCEL_DETAIL_CHARACTERS = 255
"""Of `cancel_reason_detail` (DPN REST API v2)."""


class CancelReason(StrEnum):
    """Why a transfer is cancelled at its owner (DPN REST API v2, replication transfer)."""

    REJECT = "reject"
    BAG_INVALID = "bag_invalid"
    FIXITY_REJECT = "fixity_reject"
    OTHER = "other"


@dataclass(frozen=True)
class TransferCancellation:
    """What the owner of a transfer must be told when we give it up."""

    reason: CancelReason
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", self.detail[:MAX_CANCEL_DETAIL_CHARACTERS])


@dataclass(frozen=True)
class Done:
    """The stage did its work; the item moves on, or ends well if this was the last stage or `ends_item`."""

    note: str
    ends_item: bool = False


@dataclass(frozen=True)
class Wait:
    """Nothing is wrong, or nothing that the item could help: ask again in `seconds`. Not an attempt."""

    seconds: float
    reason: str
    needs_attention: bool = False
    patience_seconds: float = 0.0
    """How much longer than others such a wait may take before it calls for attention."""


@dataclass(frozen=True)
class Retry:
    """A transient failure: again after back-off, until the attempts are used up."""

    reason: str


@dataclass(frozen=True)
class Fail:
    """It will never work: the item fails, and the owner is told where there is something to tell."""

    reason: str
    tell_owner: TransferCancellation | None = None
    needs_attention: bool = True
    """Not where another item sees to what is wrong."""


@dataclass(frozen=True)
class Stopped:
    """The work is no longer wanted: it was cancelled elsewhere, or nobody came for it. The item ends as cancelled,
    and the owner is told where there is something to tell."""

    reason: str
    tell_owner: TransferCancellation | None = None


@dataclass(frozen=True)
class StartOver:
    """What an earlier stage left is gone: the item goes back to `stage`. Counts as an attempt of that stage."""

    stage: str
    reason: str


Outcome = Done | Wait | Retry | Fail | Stopped | StartOver
