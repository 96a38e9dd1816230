"""Reads the rows of a peer's list: each is a record that was asked for, or is set aside with the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from dpn.registry import strict_json
from dpn.registry.records import InvalidRecord, Record

R = TypeVar("R", bound=Record)

MAX_EXCERPT_LENGTH = 500


@dataclass(frozen=True)
class RejectedRecord:
    """A row of a list that is no usable record, or not one that was asked for."""

    peer: str
    kind: str
    reason: str
    raw: str
    """How the row began, escaped."""

    unasked: bool = False
    """Whether it is a record, and only not one that was asked for: others tell us of those."""


@dataclass(frozen=True)
class RowFilter(Generic[R]):
    """What a list was asked for, to hold each row against: peers drop filters that they do not understand."""

    values: dict[str, Any]
    after: datetime | None = None
    before: datetime | None = None
    often_unknown: frozenset[str] = frozenset()
    """Filters that real servers do not have: what they would have kept back is left out, and nobody's fault."""

    def mismatch(self, record: R) -> str | None:
        """What is wrong with the record as an answer to this."""
        for name, value in self.values.items():
            if name not in self.often_unknown and getattr(record, name) != value:
                return f"not asked for: its {name} is {getattr(record, name)!r}, not {value!r}"
        if "after" not in self.often_unknown and self._is_too_early(record):
            return f"not asked for: its time {record.stamp} is before {self.after}"
        if "before" not in self.often_unknown and self._is_too_late(record):
            return f"not asked for: its time {record.stamp} is after {self.before}"
        return None

    def leaves_out(self, record: R) -> bool:
        """Whether only a filter that the peer may not know keeps the record back."""
        if not self.often_unknown:
            return False
        return (
            any(name in self.often_unknown and getattr(record, name) != self.values[name] for name in self.values)
            or self._is_too_early(record)
            or self._is_too_late(record)
        )

    def _is_too_early(self, record: R) -> bool:
        return self.after is not None and record.stamp < self.after

    def _is_too_late(self, record: R) -> bool:
        return self.before is not None and record.stamp > self.before


def read_rows(
    rows: Sequence[Any], record_type: type[R], wanted: RowFilter[R], *, peer: str, kind: str
) -> list[R | RejectedRecord]:
    """What the rows of a page come to."""
    read = (_read_row(row, record_type, wanted, peer, kind) for row in rows)
    return [row for row in read if row is not None]


def _read_row(
    row: Any, record_type: type[R], wanted: RowFilter[R], peer: str, kind: str
) -> R | RejectedRecord | None:
    if flaw := strict_json.flaw_of(row):
        return RejectedRecord(peer, kind, flaw, _excerpt(row))
    try:
        record = record_type.from_wire(row)
    except InvalidRecord as error:
        return RejectedRecord(peer, kind, str(error), _excerpt(row))
    if reason := wanted.mismatch(record):
        return RejectedRecord(peer, kind, reason, _excerpt(row), unasked=True)
    return None if wanted.leaves_out(record) else record


def _excerpt(row: Any) -> str:
    try:
        return json.dumps(row)[:MAX_EXCERPT_LENGTH]
    except RecursionError:
        return "(nested too deeply to be shown)"
