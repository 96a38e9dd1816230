"""The rules of members: what the node itself may record of the institutions whose content the network keeps."""

from __future__ import annotations

from datetime import datetime

from dpn.identifiers import UUID_VERSION_4
from dpn.registry.records import MemberRecord
from dpn.registry.rules.decisions import (
    LOCAL_ONLY,
    Accepted,
    Caller,
    Decision,
    invalid,
    read_only_changes,
    stamped,
)

MEMBER_IDENTITY = ("member_id",)


def create(proposed: MemberRecord, *, caller: Caller, same_name: str | None) -> Decision[MemberRecord]:
    """May this member be recorded? `same_name` is another that has its name, if any."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = _name_taken(proposed, same_name)
    if not UUID_VERSION_4.match(proposed.member_id):
        problems.append("member_id: not a version 4 UUID")
    return invalid(*problems) if problems else Accepted(proposed)


def update(
    current: MemberRecord, proposed: MemberRecord, *, caller: Caller, same_name: str | None, now: datetime
) -> Decision[MemberRecord]:
    """What becomes of `current` when the node itself sends `proposed` in its place."""
    if not caller.is_local:
        return LOCAL_ONLY
    problems = [*read_only_changes(current, proposed, MEMBER_IDENTITY)]
    if proposed.name != current.name:  # two of one name may have come from peers: that forbids nothing else
        problems += _name_taken(proposed, same_name)
    return invalid(*problems) if problems else stamped(current, proposed, now)


def _name_taken(proposed: MemberRecord, same_name: str | None) -> list[str]:
    return [] if same_name is None else [f"name: {same_name} is a member of this name"]
