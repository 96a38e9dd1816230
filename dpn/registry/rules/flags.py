"""What transfers of both kinds share: who may write one, flags that only go up, values set once, a final state.

A transfer has one owner, in whose registry it is decided; every other registry holds a copy, which only follows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar, cast

from dpn.identifiers import UUID_VERSION_4
from dpn.registry.records import PROTOCOL, ReplicationRecord, RestoreRecord
from dpn.registry.rules.decisions import (
    Accepted,
    Caller,
    Decision,
    forbidden,
    invalid,
    read_only_changes,
    stamped,
    unknown_nodes,
)

T = TypeVar("T", bound=ReplicationRecord | RestoreRecord)

SUPPORTED_PROTOCOLS = frozenset({PROTOCOL})

REASON_FIELDS = ("cancel_reason", "cancel_reason_detail")

MAX_DETAIL_LENGTH = 255


class CancelReason(StrEnum):
    """Why a transfer ended without a copy; anything more goes into `cancel_reason_detail`."""

    REJECT = "reject"
    BAG_INVALID = "bag_invalid"
    FIXITY_REJECT = "fixity_reject"
    OTHER = "other"


@dataclass(frozen=True)
class Course(Generic[T]):
    """The rules of one kind of transfer, as far as the kinds have them in common."""

    owner: str
    """The field that names the node whose record it is."""

    writer: str
    """The field that names the one other node that may write it, in the owner's registry."""

    identity: tuple[str, ...]
    """What a transfer is about: fixed when it is created."""

    set_once: tuple[str, ...]
    """What is null until it is set, and then stays."""

    flags: tuple[str, ...]
    done: str
    """The flag of success; with it, or cancelled, a transfer is final."""

    reasons: Collection[CancelReason]

    @property
    def progress(self) -> tuple[str, ...]:
        """How far a transfer has come."""
        return (*self.set_once, *self.flags, *REASON_FIELDS)

    def owner_of(self, transfer: T) -> str:
        return str(getattr(transfer, self.owner))

    def flaws(
        self, proposed: T, *, us: str, bag_known: bool, known_nodes: Collection[str], to_itself: str
    ) -> list[str]:
        """What forbids a new transfer of any kind; one of ours starts at the beginning."""
        problems = unknown_nodes([proposed.from_node], known_nodes, "from_node")
        problems += unknown_nodes([proposed.to_node], known_nodes, "to_node")
        if not bag_known:
            problems.append(f"bag: no such bag: {proposed.bag}")
        if proposed.from_node == proposed.to_node:
            problems.append(f"to_node: {to_itself}")
        if not UUID_VERSION_4.match(proposed.key[0]):
            problems.append(f"{proposed.KEY[0]}: not a version 4 UUID")
        if self.owner_of(proposed) == us:
            if proposed.protocol not in SUPPORTED_PROTOCOLS:
                problems.append(f"protocol: {proposed.protocol} is not supported")
            begun = [field for field in self.progress if getattr(proposed, field)]
            problems += [f"{field}: must be unset in a new transfer" for field in begun]
        return problems

    def update(
        self, current: T, proposed: T, *, caller: Caller, advance: Callable[[], Decision[T]], now: datetime
    ) -> Decision[T]:
        """What becomes of `current` when `caller` sends `proposed`: ours advances, a copy follows its owner's."""
        writer, owner = str(getattr(current, self.writer)), self.owner_of(current)
        if caller.namespace not in (writer, caller.us):
            return forbidden(f"Only {writer} and {caller.us} may change this transfer.")
        if owner != caller.us and not caller.is_local:
            return forbidden(f"This is a copy of {owner}'s record: tell {owner}.")
        if changes := read_only_changes(current, proposed, self.identity):
            return invalid(*changes)
        decision = advance() if owner == caller.us else self.merge(current, proposed)
        return stamped(current, decision.record, now) if isinstance(decision, Accepted) else decision

    def ending(self, current: T, proposed: T) -> Decision[T] | None:
        """The answer where the transfer is cancelled, or is final already; None where it may go on.

        Cancelling comes first: what else is sent with it is not done. Cancelling twice keeps the first reason.
        """
        if proposed.cancelled and current.cancelled:
            return Accepted(current)
        if proposed.cancelled and current.is_final:
            return invalid(f"A {self.done} transfer cannot be cancelled.")
        if proposed.cancelled:
            return Accepted(self.cancelled(current, proposed.cancel_reason, proposed.cancel_reason_detail))
        if current.is_final:
            changes = read_only_changes(current, proposed, self.progress)
            return invalid(*changes) if changes else Accepted(current)
        return None

    def merge(self, current: T, theirs: T) -> Decision[T]:
        """Our copy of a transfer after its owner has shown us its own, which may be newer or, read late, older."""
        if changes := read_only_changes(current, theirs, self.identity):
            return invalid(*changes)
        problems = self.steps_back(current, theirs)
        if not problems:
            return Accepted(theirs, changed=theirs != current)
        if theirs.updated_at < current.updated_at:
            return Accepted(current, changed=False)
        return invalid(*problems)

    def steps_back(self, current: T, proposed: T) -> tuple[str, ...]:
        """The fields of progress that `proposed` would take back, or change although they are settled."""
        if current.is_final:
            return read_only_changes(current, proposed, self.progress)
        settled = [field for field in self.flags if getattr(current, field)]
        settled += [field for field in self.set_once if getattr(current, field) is not None]
        return read_only_changes(current, proposed, settled)

    def cancelled(self, transfer: T, reason: str | None, detail: str | None) -> T:
        """The transfer, cancelled, with its reason as the protocol has it."""
        code, text = self.cancellation(reason, detail)
        end = {"cancelled": True, "cancel_reason": str(code), "cancel_reason_detail": text}
        return cast("T", transfer.model_copy(update=end))

    def cancellation(self, reason: str | None, detail: str | None) -> tuple[CancelReason, str | None]:
        """The reason as one of those there are; any other text becomes detail, cut to what the protocol allows."""
        code = (reason or CancelReason.OTHER).lower()
        if code in self.reasons:
            return CancelReason(code), _cut(detail)
        return CancelReason.OTHER, _cut(reason if detail is None else f"{reason}: {detail}")


def reason_alone(proposed: ReplicationRecord | RestoreRecord) -> list[str]:
    """A problem if a reason is given where nothing is cancelled."""
    given = proposed.cancel_reason or proposed.cancel_reason_detail
    return ["Cancel reason is only set together with cancelled."] if given else []


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_DETAIL_LENGTH:
        return text
    return text[: MAX_DETAIL_LENGTH - 1] + "…"
