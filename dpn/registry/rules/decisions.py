"""What a rule answers: the record as it is to be kept, or why it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Generic, TypeAlias, TypeVar

from dpn.registry.records import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Accepted(Generic[R]):
    """Keep `record`; where nothing of it is new, `changed` is false and nothing needs to be written."""

    record: R
    changed: bool = True


@dataclass(frozen=True)
class Refused:
    """Change nothing. `status` is the HTTP answer; `messages` tell the one who asked, one line a problem."""

    status: HTTPStatus
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Foreign:
    """Change nothing, and mind nothing: a peer passes on what is another's to say."""


Decision: TypeAlias = Accepted[R] | Refused
Adoption: TypeAlias = Accepted[R] | Refused | Foreign


@dataclass(frozen=True)
class Caller:
    """The node that asks, by its token; `us` is the node that is asked."""

    namespace: str
    us: str

    @property
    def is_local(self) -> bool:
        """The node itself asks: its own workers and operators."""
        return self.namespace == self.us


def invalid(*messages: str) -> Refused:
    """The record itself is wrong."""
    return Refused(HTTPStatus.BAD_REQUEST, messages)


def forbidden(message: str) -> Refused:
    """Somebody else may do this, the caller may not."""
    return Refused(HTTPStatus.FORBIDDEN, (message,))


LOCAL_ONLY = forbidden("Only the node itself may do this.")


def read_only_changes(current: Record, proposed: Record, fields: Iterable[str]) -> tuple[str, ...]:
    """A message for each of `fields` that `proposed` would change, in the words that old clients know."""
    return tuple(
        f"{field.replace('_', ' ').capitalize()} is marked read-only but was changed."
        for field in fields
        if getattr(current, field) != getattr(proposed, field)
    )


def unknown_nodes(nodes: Iterable[str], known: Iterable[str], field: str) -> list[str]:
    """A message for each of `nodes` that the registry has no record of."""
    return [f"{field}: no such node: {node}" for node in sorted(set(nodes) - set(known))]


def stamped(current: R, decided: R, now: datetime) -> Accepted[R]:
    """`decided` with its time of change: untouched if nothing changed, never before the last one.

    Readers ask for what changed since the newest stamp they saw: a clock that steps back must not hide a change.
    """
    kept = {"created_at": getattr(current, "created_at", None), "updated_at": getattr(current, "updated_at", None)}
    same_times = decided.model_copy(update=kept)
    if same_times == current:
        return Accepted(current, changed=False)
    return Accepted(same_times.model_copy(update={"updated_at": max(now, current.stamp)}))
