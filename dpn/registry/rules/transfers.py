"""The life of a replication transfer: requested → received → confirmed → stored, or cancelled on the way.

| state | means | who gets it there |
| --- | --- | --- |
| requested | `fixity_value` is null | the owner (`from_node`) creates the record |
| received | `fixity_value` is set, no verdict yet | `to_node`, once it has hashed its copy |
| confirmed | `store_requested` | the owner's registry, if the value equals the bag's digest |
| stored | `stored`; final | `to_node`, only after `store_requested` |
| cancelled | `cancelled`; final | either side, until it is stored; the owner's registry, if the value differs |

Flags only go up, and a final record does not change. A retry after cancellation is a new transfer.
Source: DPN REST API v2, replication transfers; stricter than the Rails server where that forgot to look.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

from dpn.registry.records import BagRecord, ReplicationRecord
from dpn.registry.rules.decisions import (
    LOCAL_ONLY,
    Accepted,
    Caller,
    Decision,
    forbidden,
    invalid,
    read_only_changes,
    stamped,
    unknown_nodes,
)
from dpn.registry.wire import UUID_VERSION_4

IDENTITY = (
    "replication_id",
    "from_node",
    "to_node",
    "bag",
    "fixity_algorithm",
    "fixity_nonce",
    "protocol",
    "link",
)
"""What a transfer is about: fixed by its owner when it is created."""

PROGRESS = ("fixity_value", "store_requested", "stored", "cancelled", "cancel_reason", "cancel_reason_detail")
"""How far it has come."""

FLAGS = ("store_requested", "stored", "cancelled")

SUPPORTED_PROTOCOLS = frozenset({"rsync"})
SUPPORTED_ALGORITHMS = frozenset({"sha256"})

MAX_DETAIL_LENGTH = 255


class CancelReason(StrEnum):
    """Why a transfer ended without a copy; anything more goes into `cancel_reason_detail`."""

    REJECT = "reject"
    BAG_INVALID = "bag_invalid"
    FIXITY_REJECT = "fixity_reject"
    OTHER = "other"


def create(
    proposed: ReplicationRecord, *, caller: Caller, bag: BagRecord | None, known_nodes: Collection[str]
) -> Decision[ReplicationRecord]:
    """May this transfer be recorded? One of ours starts at the beginning; a peer's is taken as it stands."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = unknown_nodes([proposed.from_node], known_nodes, "from_node")
    problems += unknown_nodes([proposed.to_node], known_nodes, "to_node")
    if bag is None:
        problems.append(f"bag: no such bag: {proposed.bag}")
    if proposed.from_node == proposed.to_node:
        problems.append("to_node: a node does not replicate to itself")
    if not UUID_VERSION_4.match(proposed.replication_id):
        problems.append("replication_id: not a version 4 UUID")
    if proposed.from_node == caller.us:
        problems += _not_a_beginning(proposed, bag)
    return invalid(*problems) if problems else Accepted(proposed)


def update(
    current: ReplicationRecord,
    proposed: ReplicationRecord,
    *,
    caller: Caller,
    expected_digest: str | None,
    now: datetime,
) -> Decision[ReplicationRecord]:
    """What becomes of `current` when `caller` sends `proposed` in its place. `expected_digest` is the bag's."""
    if caller.namespace not in (current.to_node, caller.us):
        return forbidden(f"Only {current.to_node} and {caller.us} may change this transfer.")
    if current.from_node != caller.us and not caller.is_local:
        return forbidden(f"This is a copy of {current.from_node}'s record: tell {current.from_node}.")
    if changes := read_only_changes(current, proposed, IDENTITY):
        return invalid(*changes)
    if current.from_node != caller.us:
        decision = merge(current, proposed)
    else:
        decision = _advance(current, proposed, caller, expected_digest)
    return stamped(current, decision.record, now) if isinstance(decision, Accepted) else decision


def judge(transfer: ReplicationRecord, expected_digest: str | None) -> ReplicationRecord:
    """The owner's verdict on the digest that `to_node` sent; the same record while there is nothing to judge."""
    if transfer.fixity_value is None or transfer.store_requested or transfer.is_final or expected_digest is None:
        return transfer
    if transfer.fixity_value == expected_digest:
        return transfer.model_copy(update={"store_requested": True})
    detail = f"expected {expected_digest}, received {transfer.fixity_value}"
    return _cancelled(transfer, CancelReason.FIXITY_REJECT, detail)


def merge(current: ReplicationRecord, theirs: ReplicationRecord) -> Decision[ReplicationRecord]:
    """Our copy of a transfer after its owner has shown us its own, which may be newer or, read late, older."""
    if changes := read_only_changes(current, theirs, IDENTITY):
        return invalid(*changes)
    problems = _steps_back(current, theirs)
    if not problems:
        return Accepted(theirs, changed=theirs != current)
    if theirs.updated_at < current.updated_at:
        return Accepted(current, changed=False)
    return invalid(*problems)


def adds_replica(before: ReplicationRecord, after: ReplicationRecord) -> bool:
    """Whether the bag now has a copy at `to_node`."""
    return after.stored and not before.stored


def cancellation(reason: str | None, detail: str | None) -> tuple[CancelReason, str | None]:
    """The reason as one of the four; any other text is kept as detail, cut to what the protocol allows."""
    try:
        return CancelReason((reason or CancelReason.OTHER).lower()), _cut(detail)
    except ValueError:
        return CancelReason.OTHER, _cut(reason if detail is None else f"{reason}: {detail}")


def _not_a_beginning(proposed: ReplicationRecord, bag: BagRecord | None) -> list[str]:
    problems = []
    if bag is not None and proposed.to_node in bag.replicating_nodes:
        problems.append(f"to_node: {proposed.to_node} holds a copy already")
    if proposed.protocol not in SUPPORTED_PROTOCOLS:
        problems.append(f"protocol: {proposed.protocol} is not supported")
    if proposed.fixity_algorithm not in SUPPORTED_ALGORITHMS:
        problems.append(f"fixity_algorithm: {proposed.fixity_algorithm} is not supported")
    problems += [f"{field}: must be unset in a new transfer" for field in PROGRESS if getattr(proposed, field)]
    return problems


def _advance(
    current: ReplicationRecord, proposed: ReplicationRecord, caller: Caller, expected_digest: str | None
) -> Decision[ReplicationRecord]:
    """The next state of a transfer that is ours. Cancelling comes first: what else is sent with it is not done."""
    if (proposed.cancelled and current.cancelled) or _sends_fixity_again(current, proposed, caller):
        return Accepted(current)
    if proposed.cancelled and current.stored:
        return invalid("A stored transfer cannot be cancelled.")
    if proposed.cancelled:
        return Accepted(_cancelled(current, proposed.cancel_reason, proposed.cancel_reason_detail))
    if current.is_final:
        changes = read_only_changes(current, proposed, PROGRESS)
        return invalid(*changes) if changes else Accepted(current)
    if problems := [*_steps_back(current, proposed), *_unfounded(current, proposed, caller)]:
        return invalid(*problems)
    judged = judge(current.model_copy(update={"fixity_value": proposed.fixity_value}), expected_digest)
    if judged.cancelled:
        return Accepted(judged)
    if proposed.store_requested and not judged.store_requested:
        return invalid("Store requested needs a fixity value that equals the bag's digest.")
    return Accepted(judged.model_copy(update={"stored": proposed.stored}))


def _sends_fixity_again(current: ReplicationRecord, proposed: ReplicationRecord, caller: Caller) -> bool:
    """Whether this is, once more, the step that our verdict answered: its answer was lost, or two sent it at once.

    The one who sends it cannot know the verdict, so not knowing it is no attempt to take it back.
    """
    verdict_stands = current.store_requested and not current.is_final
    rejected = current.cancelled and current.cancel_reason == CancelReason.FIXITY_REJECT
    sent = dict.fromkeys(PROGRESS) | dict.fromkeys(FLAGS, False)
    sent["fixity_value"] = current.fixity_value
    same = all(getattr(proposed, name) == value for name, value in sent.items())
    return same and current.fixity_value is not None and not caller.is_local and (verdict_stands or rejected)


def _steps_back(current: ReplicationRecord, proposed: ReplicationRecord) -> tuple[str, ...]:
    """The fields of progress that `proposed` would take back, or change although they are settled."""
    if current.is_final:
        return read_only_changes(current, proposed, PROGRESS)
    settled = [field for field in FLAGS if getattr(current, field)]
    if current.fixity_value is not None:
        settled.append("fixity_value")
    return read_only_changes(current, proposed, settled)


def _unfounded(current: ReplicationRecord, proposed: ReplicationRecord, caller: Caller) -> list[str]:
    """Steps forward that the caller may not make, or not yet."""
    problems = []
    if proposed.cancel_reason or proposed.cancel_reason_detail:
        problems.append("Cancel reason is only set together with cancelled.")
    if proposed.store_requested and not current.store_requested and not caller.is_local:
        problems.append(f"Store requested is set by {current.from_node} only.")
    if proposed.stored and not current.store_requested:
        problems.append("Stored must not precede store requested.")
    return problems


def _cancelled(transfer: ReplicationRecord, reason: str | None, detail: str | None) -> ReplicationRecord:
    code, text = cancellation(reason, detail)
    return transfer.model_copy(
        update={"cancelled": True, "cancel_reason": str(code), "cancel_reason_detail": text}
    )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_DETAIL_LENGTH:
        return text
    return text[: MAX_DETAIL_LENGTH - 1] + "…"
