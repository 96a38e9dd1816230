"""The life of a restore transfer: requested → accepted → staged → finished, or cancelled on the way.

| state | means | who gets it there |
| --- | --- | --- |
| requested | nothing is set | the owner (`to_node`, who wants the bag back) creates the record |
| accepted | `accepted` | `from_node`, who holds a copy |
| staged | `link` is set | `from_node`, once the bag lies where `link` says |
| finished | `finished`; final | the owner, once it has the bag; only with a link |
| cancelled | `cancelled`; final | either side, until it is finished |

Flags only go up, the link is set once, and a final record does not change.
Source: DPN REST API v2, restore transfers.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from dpn.registry.records import RestoreRecord
from dpn.registry.rules.decisions import LOCAL_ONLY, Accepted, Caller, Decision, invalid
from dpn.registry.rules.flags import CancelReason, Course, reason_alone

COURSE: Course[RestoreRecord] = Course(
    owner="to_node",
    writer="from_node",
    identity=("restore_id", "from_node", "to_node", "bag", "protocol"),
    set_once=("link",),
    flags=("accepted", "finished", "cancelled"),
    done="finished",
    reasons=frozenset({CancelReason.REJECT, CancelReason.OTHER}),
)


def create(
    proposed: RestoreRecord, *, caller: Caller, bag_known: bool, known_nodes: Collection[str]
) -> Decision[RestoreRecord]:
    """May this transfer be recorded? One of ours starts at the beginning; a peer's is taken as it stands."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = COURSE.flaws(
        proposed,
        us=caller.us,
        bag_known=bag_known,
        known_nodes=known_nodes,
        to_itself="a node does not restore from itself",
    )
    return invalid(*problems) if problems else Accepted(proposed)


def update(
    current: RestoreRecord, proposed: RestoreRecord, *, caller: Caller, now: datetime
) -> Decision[RestoreRecord]:
    """What becomes of `current` when `caller` sends `proposed` in its place."""
    return COURSE.update(
        current, proposed, caller=caller, advance=lambda: _advance(current, proposed, caller), now=now
    )


def _advance(current: RestoreRecord, proposed: RestoreRecord, caller: Caller) -> Decision[RestoreRecord]:
    """The next state of a transfer that is ours."""
    if (ended := COURSE.ending(current, proposed)) is not None:
        return ended
    if problems := [*COURSE.steps_back(current, proposed), *_unfounded(current, proposed, caller)]:
        return invalid(*problems)
    steps = {"accepted": proposed.accepted, "link": proposed.link, "finished": proposed.finished}
    return Accepted(current.model_copy(update=steps))


def _unfounded(current: RestoreRecord, proposed: RestoreRecord, caller: Caller) -> list[str]:
    """Steps forward that the caller may not make, or not yet."""
    problems = reason_alone(proposed)
    if proposed.link is not None and not proposed.accepted:
        problems.append("Link must not precede accepted.")
    if proposed.finished and not caller.is_local:
        problems.append(f"Finished is set by {current.to_node} only.")
    if proposed.finished and proposed.link is None:
        problems.append("Finished must not precede the link.")
    return problems
