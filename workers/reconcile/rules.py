"""What to do about a transfer to us, by what its owner has, what our item has, and what we have told: pure.

| the owner's record | our item | then |
| --- | --- | --- |
| open | none | an item is made |
| open | ended, with a receipt | it is opened again: the copy is proven and the owner told |
| open | ended without one | the owner is told that we gave it up, unless that is under way |
| stored | open, with a receipt | nothing: its stage finds that the owner knows, and ends it with all it notes |
| stored or cancelled | open, held by no worker | it is closed |
| stored | ended without a receipt, or none | reported: the owner counts on a copy that we cannot prove |
| cancelled | ended well | reported: we keep a copy that the owner does not count on |
| unknown to it | open or none | reported: absence ends nothing |
| any | held by a live worker | nothing: the worker asks the owner itself |

Of restores that a peer asks of us (`decide_restore`):

| the requester's record | our item | then |
| --- | --- | --- |
| open | none, and it was not declined | an item is made, or it is declined |
| open | given up, or declined | the requester is told, unless that is under way |
| open | ended well | reported: it had the bag, and has forgotten |
| finished or cancelled | open, held by no worker | it is closed |
| unknown to it | open or none | reported: absence ends nothing |
| any | held by a live worker | nothing |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dpn.registry.records import ReplicationRecord, RestoreRecord
from models.work import Status


class AtOwner(StrEnum):
    """How far the transfer is at its owner."""

    OPEN = "open"
    STORED = "stored"
    """Or, of a restore, finished: what it was for is done."""
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, record: ReplicationRecord | RestoreRecord | None) -> AtOwner:
        if record is None:
            return cls.UNKNOWN
        if record.cancelled:
            return cls.CANCELLED
        return cls.STORED if record.is_final else cls.OPEN


class Here(StrEnum):
    """How our item stands."""

    NONE = "none"
    OPEN = "open"
    HELD = "held"
    """A live worker runs it."""
    SUCCEEDED = "succeeded"
    GIVEN_UP = "given up"

    @classmethod
    def of(cls, status: str | None, lease_expires_at: datetime | None, now: datetime) -> Here:
        match status:
            case None:
                return cls.NONE
            case Status.SUCCESS:
                return cls.SUCCEEDED
            case Status.FAILED | Status.CANCELLED:
                return cls.GIVEN_UP
            case Status.RUNNING if lease_expires_at is not None and lease_expires_at >= now:
                return cls.HELD
            case _:
                return cls.OPEN


class Action(StrEnum):
    """What is to be done."""

    NOTHING = "nothing"
    MAKE = "make an item"
    REOPEN = "open the item again"
    TELL = "tell the owner"
    CLOSE = "close the item"
    REPORT_UNKNOWN = "report: unknown to its owner"
    REPORT_UNPROVEN = "report: stored for its owner, no receipt here"
    REPORT_RESTORE_UNKNOWN = "report: restore unknown to its owner"
    REPORT_RESTORE_FORGOTTEN = "report: restore delivered, open again at its owner"
    REPORT_UNCOUNTED = "report: stored here, cancelled at its owner"

    @property
    def report(self) -> str | None:
        """What only people can settle, in words; None for what we do ourselves."""
        return self.value.removeprefix("report: ") if self.value.startswith("report: ") else None


@dataclass(frozen=True)
class Situation:
    """All that matters of one transfer."""

    owner: AtOwner
    item: Here
    has_receipt: bool = False
    notice: Here = Here.NONE
    """The item that tells the owner that we gave the transfer up."""


def decide(found: Situation) -> Action:
    """See the module's docstring."""
    if found.item is Here.HELD:
        return Action.NOTHING
    match found.owner:
        case AtOwner.OPEN:
            return _while_wanted(found)
        case AtOwner.STORED if found.item is Here.OPEN:
            return Action.NOTHING if found.has_receipt else Action.CLOSE
        case AtOwner.STORED if not found.has_receipt:
            return Action.REPORT_UNPROVEN
        case AtOwner.CANCELLED if found.item is Here.OPEN:
            return Action.CLOSE
        case AtOwner.CANCELLED if found.item is Here.SUCCEEDED:
            return Action.REPORT_UNCOUNTED
        case AtOwner.UNKNOWN if found.item in (Here.OPEN, Here.NONE):
            return Action.REPORT_UNKNOWN
    return Action.NOTHING


def _while_wanted(found: Situation) -> Action:
    match found.item:
        case Here.NONE:
            return Action.MAKE
        case Here.OPEN:
            return Action.NOTHING
        case _ if found.has_receipt:
            return Action.REOPEN
        case Here.SUCCEEDED:
            return Action.REPORT_UNPROVEN
        case _ if found.notice in (Here.OPEN, Here.HELD):
            return Action.NOTHING
    return Action.TELL


def decide_restore(owner: AtOwner, item: Here, notice: Here) -> Action:
    """See the module's docstring. `notice` is the item that tells the requester that we declined or gave it up."""
    match owner, item:
        case _, Here.HELD:
            return Action.NOTHING
        case AtOwner.OPEN, Here.OPEN:
            return Action.NOTHING
        case AtOwner.OPEN, Here.SUCCEEDED:
            return Action.REPORT_RESTORE_FORGOTTEN
        case AtOwner.OPEN, Here.NONE if notice is Here.NONE:
            return Action.MAKE
        case AtOwner.OPEN, _:
            return Action.NOTHING if notice in (Here.OPEN, Here.HELD) else Action.TELL
        case ((AtOwner.STORED | AtOwner.CANCELLED), Here.OPEN):
            return Action.CLOSE
        case AtOwner.UNKNOWN, (Here.OPEN | Here.NONE):
            return Action.REPORT_RESTORE_UNKNOWN
    return Action.NOTHING
