"""What becomes of a record of ours when an archive shows another state of it: functions of values.

In one direction only: nothing that we know is taken back. Where neither is plainly the newer one, ours stays, and
a person is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from dpn.registry.records import (
    Agreement,
    BagRecord,
    DigestRecord,
    FixityCheckRecord,
    IngestRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    RestoreRecord,
)
from dpn.registry.rules import Accepted, Decision, Refused, peers, restores, transfers
from dpn.registry.rules.bags import BAG_IDENTITY, DIGEST_IDENTITY

R = TypeVar("R", bound=Record)
Changing = TypeVar("Changing", NodeRecord, MemberRecord, BagRecord, ReplicationRecord, RestoreRecord)


@dataclass(frozen=True)
class Origin:
    """Whose registry the archive shows, and who we are."""

    registry: str
    us: str

    @property
    def is_ours(self) -> bool:
        """Our own backup: what it says of our settings and agreements is ours."""
        return self.registry == self.us

    def source_of_member(self, told_by: str | None) -> str | None:
        """Who may change a member that is new to us, given who told that registry of it; none: it is our own."""
        source = told_by or self.registry
        return None if source == self.us else source


def merge(origin: Origin, ours: Record | None, theirs: Record) -> Decision[Any]:
    """The record as it is to be kept; refused where the two contradict each other."""
    if isinstance(theirs, NodeRecord):
        return merge_node(origin, _same_kind(ours, NodeRecord), theirs)
    if ours is None:
        return Accepted(theirs)
    if ours == theirs:
        return Accepted(ours, changed=False)
    return MERGES[type(theirs)](ours, theirs)


def merge_node(origin: Origin, ours: NodeRecord | None, theirs: NodeRecord) -> Decision[NodeRecord]:
    """A node. Where it is reached is for our settings to say; a peer speaks of itself only, we of our agreements.

    An entry that `dpn db upgrade` has just made anew, after a loss, gives way to the one that there was before.
    """
    if ours is None:
        without = theirs.model_copy(update=dict.fromkeys(Agreement, ()))
        return Accepted(theirs if origin.is_ours else without)
    if origin.is_ours:
        theirs = theirs.model_copy(update={"api_root": ours.api_root})
        if _is_made_anew(ours, theirs):
            return Accepted(theirs)
        return _the_newer(ours, theirs, ())
    is_its_own = theirs.namespace == origin.registry and theirs.namespace != origin.us
    if not is_its_own or (theirs.updated_at < ours.updated_at and not _is_made_anew(ours, theirs)):
        return Accepted(ours, changed=False)
    return peers.adopt_node(origin.registry, ours, theirs)


def different(ours: Record, theirs: Record) -> dict[str, tuple[Any, Any]]:
    """The fields in which they differ, as on the wire: our value and theirs."""
    mine, other = ours.to_wire(), theirs.to_wire()
    return {name: (mine[name], other[name]) for name in mine if mine[name] != other[name]}


def _merge_bag(ours: BagRecord, theirs: BagRecord) -> Decision[BagRecord]:
    return _the_newer(ours, theirs, BAG_IDENTITY)


def _merge_member(ours: MemberRecord, theirs: MemberRecord) -> Decision[MemberRecord]:
    return _the_newer(ours, theirs, ())


def _merge_digest(ours: DigestRecord, theirs: DigestRecord) -> Decision[DigestRecord]:
    return _unchanging(ours, theirs, DIGEST_IDENTITY)


def _merge_fixity_check(ours: FixityCheckRecord, theirs: FixityCheckRecord) -> Decision[FixityCheckRecord]:
    return _unchanging(ours, theirs, FixityCheckRecord.model_fields)


def _merge_ingest(ours: IngestRecord, theirs: IngestRecord) -> Decision[IngestRecord]:
    return _unchanging(ours, theirs, IngestRecord.model_fields)


def _merge_transfer(ours: ReplicationRecord, theirs: ReplicationRecord) -> Decision[ReplicationRecord]:
    return _going_on(ours, transfers.COURSE.merge(ours, theirs))


def _merge_restore(ours: RestoreRecord, theirs: RestoreRecord) -> Decision[RestoreRecord]:
    return _going_on(ours, restores.COURSE.merge(ours, theirs))


MERGES: dict[type[Record], Callable[[Any, Any], Decision[Any]]] = {
    MemberRecord: _merge_member,
    BagRecord: _merge_bag,
    DigestRecord: _merge_digest,
    FixityCheckRecord: _merge_fixity_check,
    IngestRecord: _merge_ingest,
    ReplicationRecord: _merge_transfer,
    RestoreRecord: _merge_restore,
}


def _the_newer(ours: Changing, theirs: Changing, identity: Iterable[str]) -> Decision[Changing]:
    """The one that was changed last; of two that were changed in the same second and differ, neither is that."""
    if changes := _contradictions(ours, theirs, identity):
        return changes
    if theirs.updated_at == ours.updated_at and theirs != ours:
        return _contradiction(f"Both were last changed at {ours.updated_at.isoformat()}, and they differ.")
    return Accepted(theirs) if theirs.updated_at > ours.updated_at else Accepted(ours, changed=False)


def _unchanging(ours: R, theirs: R, identity: Iterable[str]) -> Decision[R]:
    return _contradictions(ours, theirs, identity) or Accepted(ours, changed=False)


def _going_on(ours: Changing, merged: Decision[Changing]) -> Decision[Changing]:
    """A transfer goes on, or stays as it is; its times do not go back with an older copy."""
    if isinstance(merged, Refused):
        return _contradiction(*merged.messages)
    times = {"created_at": ours.created_at, "updated_at": max(ours.updated_at, merged.record.updated_at)}
    record = merged.record.model_copy(update=times)
    return Accepted(record, changed=record != ours)


def _contradictions(ours: R, theirs: R, fields: Iterable[str]) -> Refused | None:
    changed = [name for name in fields if getattr(ours, name) != getattr(theirs, name)]
    return (
        _contradiction(*(f"{name} never changes, and they differ in it." for name in changed)) if changed else None
    )


def _contradiction(*messages: str) -> Refused:
    return Refused(HTTPStatus.CONFLICT, messages)


def _is_made_anew(ours: NodeRecord, theirs: NodeRecord) -> bool:
    return ours.created_at == ours.updated_at and theirs.created_at < ours.created_at


def _same_kind(record: Record | None, kind: type[R]) -> R | None:
    if record is None or isinstance(record, kind):
        return record
    raise TypeError(f"{type(record).__name__} is not {kind.__name__}")
