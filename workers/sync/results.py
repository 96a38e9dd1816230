"""What a round of dpn_sync came to: for each node and kind of record, for the log, the table and scripts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dpn.registry.catalogue import Applied, RefusedRecord
from dpn.registry.client import RejectedRecord

MAX_REFUSALS_KEPT = 20
SET_ASIDE = "set aside"
"""The kind of what was set aside in earlier rounds and tried again."""


@dataclass
class TypeResult:
    """What became of one kind of record of one peer."""

    fetched: int = 0
    added: int = 0
    updated: int = 0
    foreign: int = 0
    """Records that the peer merely passes on, and that others tell us themselves."""
    refused: int = 0
    refused_by: dict[str, int] = field(default_factory=dict)
    """How many were refused for which status, see `RefusedRecord`; `no record`, `not asked for`."""
    refusals: list[str] = field(default_factory=list)
    """The first few reasons. All that are no record are set aside, with theirs: `dpn registry aside`."""
    nothing_new: bool = False
    """The peer says that nothing has changed since it was read last: it was not read."""
    error: str | None = None
    """Why it could not be read to its end; the next round begins where this one did."""

    def count(self, applied: Applied) -> None:
        self.added += applied.added
        self.updated += applied.updated
        self.foreign += applied.foreign
        for refused in applied.refused:
            self._refuse(str(int(refused.status)), _text(refused))

    def count_unusable(self, rows: Iterable[RejectedRecord]) -> None:
        for row in rows:
            self._refuse("not asked for" if row.unasked else "no record", f"{row.reason}: {row.raw}")

    def _refuse(self, status: str, text: str) -> None:
        self.refused += 1
        self.refused_by[status] = self.refused_by.get(status, 0) + 1
        if len(self.refusals) < MAX_REFUSALS_KEPT:
            self.refusals.append(text)


@dataclass
class PeerResult:
    """What one round read from one peer. `error` is why all or the rest of it could not be read."""

    peer: str
    types: dict[str, TypeResult] = field(default_factory=dict)
    set_aside: int = 0
    """How many of its records wait for what they refer to, or for a person, after this round."""
    error: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None and not self.failed_types

    @property
    def failed_types(self) -> list[str]:
        return [name for name, of_type in self.types.items() if of_type.error is not None]

    def of(self, name: str) -> TypeResult:
        return self.types.setdefault(name, TypeResult())


def _text(refused: RefusedRecord) -> str:
    return f"{refused.kind} {'/'.join(refused.key)}: {'; '.join(refused.messages)}"
