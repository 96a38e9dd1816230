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

from dpn.registry.records import FIXITY_ALGORITHM, BagRecord, ReplicationRecord
from dpn.registry.rules.decisions import LOCAL_ONLY, Accepted, Caller, Decision, invalid
from dpn.registry.rules.flags import SUPPORTED_PROTOCOLS, CancelReason, Course, reason_alone

SUPPORTED_ALGORITHMS = frozenset({FIXITY_ALGORITHM})

COURSE: Course[ReplicationRecord] = Course(
    owner="from_node",
    writer="to_node",
    identity=(
        "replication_id",
        "from_node",
        "to_node",
        "bag",
        "fixity_algorithm",
        "fixity_nonce",
        "protocol",
        "link",
    ),
    set_once=("fixity_value",),
    flags=("store_requested", "stored", "cancelled"),
    done="stored",
    reasons=frozenset(CancelReason),
)

__all__ = [
    "COURSE",
    "SUPPORTED_ALGORITHMS",
    "SUPPORTED_PROTOCOLS",
    "CancelReason",
    "adds_replica",
    "create",
    "judge",
    "merge",
    "update",
]


def create(
    proposed: ReplicationRecord, *, caller: Caller, bag: BagRecord | None, known_nodes: Collection[str]
) -> Decision[ReplicationRecord]:
    """May this transfer be recorded? One of ours starts at the beginning; a peer's is taken as it stands."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = COURSE.flaws(
        proposed,
        us=caller.us,
        bag_known=bag is not None,
        known_nodes=known_nodes,
        to_itself="a node does not replicate to itself",
    )
    if proposed.from_node == caller.us:
        if bag is not None and proposed.to_node in bag.replicating_nodes:
            problems.append(f"to_node: {proposed.to_node} holds a copy already")
        if proposed.fixity_algorithm not in SUPPORTED_ALGORITHMS:
            problems.append(f"fixity_algorithm: {proposed.fixity_algorithm} is not supported")
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
    return COURSE.update(
        current,
        proposed,
        caller=caller,
        advance=lambda: _advance(current, proposed, caller, expected_digest),
        now=now,
    )


def judge(transfer: ReplicationRecord, expected_digest: str | None) -> ReplicationRecord:
    """The owner's verdict on the digest that `to_node` sent; the same record while there is nothing to judge."""
    if transfer.fixity_value is None or transfer.store_requested or transfer.is_final or expected_digest is None:
        return transfer
    if transfer.fixity_value == expected_digest:
        return transfer.model_copy(update={"store_requested": True})
    detail = f"expected {expected_digest}, received {transfer.fixity_value}"
    return COURSE.cancelled(transfer, CancelReason.FIXITY_REJECT, detail)


def merge(current: ReplicationRecord, theirs: ReplicationRecord) -> Decision[ReplicationRecord]:
    """Our copy of a transfer after its owner has shown us its own, which may be newer or, read late, older."""
    return COURSE.merge(current, theirs)


def adds_replica(before: ReplicationRecord, after: ReplicationRecord) -> bool:
    """Whether the bag now has a copy at `to_node`."""
    return after.stored and not before.stored


def _advance(
    current: ReplicationRecord, proposed: ReplicationRecord, caller: Caller, expected_digest: str | None
) -> Decision[ReplicationRecord]:
    """The next state of a transfer that is ours."""
    if _sends_fixity_again(current, proposed, caller):
        return Accepted(current)
    if (ended := COURSE.ending(current, proposed)) is not None:
        return ended
    if problems := [*COURSE.steps_back(current, proposed), *_unfounded(current, proposed, caller)]:
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
    sent = dict.fromkeys(COURSE.progress) | dict.fromkeys(COURSE.flags, False)
    sent["fixity_value"] = current.fixity_value
    same = all(getattr(proposed, name) == value for name, value in sent.items())
    return same and current.fixity_value is not None and not caller.is_local and (verdict_stands or rejected)


def _unfounded(current: ReplicationRecord, proposed: ReplicationRecord, caller: Caller) -> list[str]:
    """Steps forward that the caller may not make, or not yet."""
    problems = reason_alone(proposed)
    if proposed.store_requested and not current.store_requested and not caller.is_local:
        problems.append(f"Store requested is set by {current.from_node} only.")
    if proposed.stored and not current.store_requested:
        problems.append("Stored must not precede store requested.")
    return problems
