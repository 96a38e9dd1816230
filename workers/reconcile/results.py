"""What a reconciliation did, for its log line, its table and its JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_REPORTED = 50


@dataclass
class Reconciled:
    """What became of the transfers that one peer owns. `error` is why not all could be compared."""

    peer: str
    compared: int = 0
    updated: int = 0
    """Records of ours that were behind their owner's."""
    corrected: int = 0
    """Records of ours that had ended, and are open again at their owner."""
    items_missing: int = 0
    """Open transfers without an item: `dpn_queue` makes them."""
    reopened: int = 0
    closed: int = 0
    told: int = 0
    """Cancellations that are owed (again)."""
    unusable: int = 0
    """Rows that were not what was asked for: they were not believed."""
    set_aside: int = 0
    """Records that the rules do not take over (yet), as in a sync."""
    reported: dict[str, int] = field(default_factory=dict)
    """What only people can settle, by kind."""
    reports: list[str] = field(default_factory=list)
    """The first of these: what, and which transfer."""
    open_from_us: int = 0
    """Transfers that we own and the peer has not finished: it will, or somebody should ask it."""
    open_restores: int = 0
    error: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None

    def report(self, action: str, transfer: str) -> None:
        self.reported[action] = self.reported.get(action, 0) + 1
        if len(self.reports) < MAX_REPORTED:
            self.reports.append(f"{action}: {transfer}")
