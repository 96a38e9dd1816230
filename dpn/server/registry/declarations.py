"""What the registry can be asked of its records: a declaration each, of which `serving` makes an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy.orm import Session

from dpn.registry import wire
from dpn.registry.catalogue import Kind
from dpn.registry.records import Record
from dpn.registry.rules import Caller, Decision
from dpn.registry.rules.transfers import SUPPORTED_ALGORITHMS
from dpn.server.registry.queries import Filters
from dpn.server.service import PathPart

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Writing:
    """What a record is written with: `key` is the value in the path, `copies` how many a bag is to have."""

    session: Session
    caller: Caller
    now: datetime
    copies: int
    key: str


Write: TypeAlias = Callable[[Writing, R], Decision[R]]


@dataclass(frozen=True)
class Lists(Generic[R]):
    """A page of the records that the filters let through.

    `fixed` is the filter that the path sets; with `within` the path names a record of that kind, which must exist.
    """

    path: str
    kind: Kind[R]
    summary: str
    filters: Filters = field(default_factory=dict)
    fixed: str | None = None
    within: Kind[Any] | None = None


@dataclass(frozen=True)
class Shows(Generic[R]):
    """The record that the path names."""

    path: str
    kind: Kind[R]
    summary: str


@dataclass(frozen=True)
class Creates(Generic[R]):
    """A new record; only the node itself may."""

    path: str
    kind: Kind[R]
    summary: str
    write: Write[R]


@dataclass(frozen=True)
class Updates(Generic[R]):
    """The record that the path names, changed; by the node itself, with `by_peers` by whom it concerns too."""

    path: str
    kind: Kind[R]
    summary: str
    write: Write[R]
    by_peers: bool = False


Declared: TypeAlias = Lists[Any] | Shows[Any] | Creates[Any] | Updates[Any]


def _algorithm(text: str) -> str:
    if text not in SUPPORTED_ALGORITHMS:
        raise ValueError("not an algorithm of ours")
    return text


PATH_PARTS: Mapping[str, PathPart] = {
    "uuid": PathPart(wire.parse_uuid, wire.UUID_FORM.read),
    "namespace": PathPart(wire.parse_namespace, wire.NAMESPACE_FORM.read),
    "algorithm": PathPart(_algorithm, {"type": "string", "enum": sorted(SUPPORTED_ALGORITHMS)}),
}
"""The names that stand in braces in the paths."""
