"""What became of a batch of records that a peer showed us."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from dpn.registry.records import Record


@dataclass(frozen=True)
class RefusedRecord:
    """A record that was set aside. `status` says why: 403 not that peer's, 404 its bag is unknown (yet), 409 it
    contradicts what we have, 400 it breaks a rule."""

    kind: str
    key: tuple[str, ...]
    status: HTTPStatus
    messages: tuple[str, ...]
    record: Record
    rival: str | None = None
    """The node whose record ours is, where the peer says that it is its own."""


@dataclass(frozen=True)
class Applied:
    """What became of a batch. `foreign` are records that the peer merely passes on: left alone, and no fault."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: tuple[RefusedRecord, ...] = ()
    foreign: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.refused + other.refused,
            self.foreign + other.foreign,
        )
