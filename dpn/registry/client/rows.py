"""Reads single rows of a peer's list: each is a record that was asked for, or is set aside with the reason."""

from __future__ import annotations

import json
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


@dataclass(frozen=True)
class Wanted(Generic[R]):
    """What a list was asked for, to hold each row against: peers drop filters that they do not understand."""

    values: dict[str, Any]
    after: datetime | None = None
    before: datetime | None = None

    def mismatch(self, record: R) -> str | None:
        """What is wrong with the record as an answer to this."""
        for name, value in self.values.items():
            if getattr(record, name) != value:
                return f"not asked for: its {name} is {getattr(record, name)!r}, not {value!r}"
        if self.after is not None and record.stamp < self.after:
            return f"not asked for: its time {record.stamp} is before {self.after}"
        if self.before is not None and record.stamp > self.before:
            return f"not asked for: its time {record.stamp} is after {self.before}"
        return None


def read_row(row: Any, record_type: type[R], wanted: Wanted[R], *, peer: str, kind: str) -> R | RejectedRecord:
    """The record in a row, or why it is none that was asked for."""
    reason = strict_json.flaw_of(row)
    if reason is None:
        try:
            record = record_type.from_wire(row)
        except InvalidRecord as error:
            reason = str(error)
        else:
            reason = wanted.mismatch(record)
            if reason is None:
                return record
    return RejectedRecord(peer, kind, reason, _excerpt(row))


def _excerpt(row: Any) -> str:
    try:
        return json.dumps(row)[:MAX_EXCERPT_LENGTH]
    except RecursionError:
        return "(nested too deeply to be shown)"
