"""What commands show in columns. A row is one line, whatever the width, and nothing in it moves a cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import typer

from dpn.text import replaced

if TYPE_CHECKING:
    from workers.reconcile.reconcile import Reconciled
    from workers.sync.sync import PeerResult

SYNC_COUNTS = ("fetched", "added", "updated", "foreign", "refused")
RECONCILED_COUNTS = (
    "compared", "updated", "corrected", "items_missing", "reopened", "closed", "told", "set_aside", "unusable",
    "open_from_us", "open_restores",
)  # fmt: skip


Row = tuple[str, ...]


def print_table(headings: Row, rows: Iterable[Row], *, alarming: Iterable[bool] = ()) -> None:
    """Shows the rows aligned below their headings; on a terminal, those that are alarming in red."""
    cells = [headings, *(tuple(replaced(cell, " ") for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    typer.secho(lines[0], bold=True)
    for line, alarm in zip_longest(lines[1:], alarming, fillvalue=False):
        typer.secho(line, bold=bool(alarm), fg="red" if alarm else None)


def print_sync(results: Sequence[PeerResult]) -> None:
    """How much of each kind of record came of each peer, and a line that sums up each peer."""
    rows: list[Row] = []
    for result in results:
        for name, of_type in result.types.items():
            counts = [str(getattr(of_type, count)) for count in SYNC_COUNTS]
            said = of_type.error or ("nothing new" if of_type.nothing_new else "")
            rows.append((result.peer, name, *counts, said))
        rows.append((result.peer, *[""] * (1 + len(SYNC_COUNTS)), _summary(result)))
    print_table(("peer", "records", *SYNC_COUNTS, "result"), rows)


def print_reconciliation(results: Sequence[Reconciled]) -> None:
    """What was put right: a line for each count that is not zero, and for what only people can settle."""
    rows: list[Row] = []
    for result in results:
        for name in RECONCILED_COUNTS:
            if count := getattr(result, name):
                rows.append((result.peer, name.replace("_", " "), str(count), ""))
        for what, count in result.reported.items():
            which = [report.rpartition(" ")[2] for report in result.reports if report.startswith(what)]
            rows.append((result.peer, what, str(count), ", ".join(which)))
        rows.append((result.peer, "", "", result.error or f"compared in {result.seconds} s"))
    print_table(("peer", "transfers", "count", "result"), rows)


def _summary(result: PeerResult) -> str:
    parts = [f"complete in {result.seconds} s"]
    if result.error is not None:
        parts = [result.error]
    elif result.failed_types:
        parts = [f"not complete: {', '.join(result.failed_types)}"]
    if result.set_aside:
        parts.append(f"{result.set_aside} set aside: dpn registry aside")
    return "; ".join(parts)
