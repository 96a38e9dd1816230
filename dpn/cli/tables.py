"""What `dpn sync` prints: how much of each kind of record came of each peer, and what was put right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from workers.reconcile.reconcile import Reconciled
    from workers.sync.sync import PeerResult

SYNC_COUNTS = ("fetched", "added", "updated", "foreign", "refused")
RECONCILED_COUNTS = (
    "compared", "updated", "corrected", "items_missing", "reopened", "closed", "told", "set_aside", "unusable",
    "open_from_us", "open_restores",
)  # fmt: skip


def sync_table(results: Sequence[PeerResult]) -> Table:
    """A line for each kind of record, and one that sums up each peer."""
    table = Table("peer", "records", *SYNC_COUNTS, "result", box=None)
    for result in results:
        for name, of_type in result.types.items():
            counts = [str(getattr(of_type, count)) for count in SYNC_COUNTS]
            said = of_type.error or ("nothing new" if of_type.nothing_new else "")
            table.add_row(result.peer, name, *counts, escape(said))
        table.add_row(result.peer, *[""] * (1 + len(SYNC_COUNTS)), escape(_summary(result)))
    return table


def reconciliation_table(results: Sequence[Reconciled]) -> Table:
    """A line for each count that is not zero, and for what only people can settle."""
    table = Table("peer", "transfers", "count", "result", box=None)
    for result in results:
        for name in RECONCILED_COUNTS:
            if count := getattr(result, name):
                table.add_row(result.peer, name.replace("_", " "), str(count), "")
        for what, count in result.reported.items():
            which = [report.rpartition(" ")[2] for report in result.reports if report.startswith(what)]
            table.add_row(result.peer, what, str(count), escape(", ".join(which)))
        table.add_row(result.peer, "", "", escape(result.error or f"compared in {result.seconds} s"))
    return table


def _summary(result: PeerResult) -> str:
    parts = [f"complete in {result.seconds} s"]
    if result.error is not None:
        parts = [result.error]
    elif result.failed_types:
        parts = [f"not complete: {', '.join(result.failed_types)}"]
    if result.set_aside:
        parts.append(f"{result.set_aside} set aside: dpn registry aside")
    return "; ".join(parts)
