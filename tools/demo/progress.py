"""Shows how the bags travel: a table that is redrawn on a terminal, a line for each change anywhere else.

Notes hold what other nodes said: they are shown as text that cannot steer a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dpn.text import replaced
from models.work import Status
from tools.demo.watch import BagProgress

REDRAWN_PER_SECOND = 8
FRAME_ROWS = 6
"""What the table has beside its rows: title, head, lines, and a line below."""
SHORT_UUID = 8
UNITS = ("bytes", "kB", "MB", "GB", "TB")
UNIT = 1000

STYLES = {
    Status.SUCCESS: "green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "red",
    Status.RUNNING: "cyan",
    Status.PENDING: "yellow",
}


class Display(Protocol):
    """Where the demo tells what goes on."""

    def say(self, text: str) -> None:
        """Something happened that is no bag's progress."""

    def show(self, positions: Sequence[BagProgress]) -> None:
        """This is where the bags are now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_progress(console: Console) -> Display:
    """A live table if `console` is a terminal, else plain lines."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


class LiveProgress:
    """One row a bag and node, redrawn in place; what is said stands above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=REDRAWN_PER_SECOND, transient=True)
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        self._console.print(Text(one_line(text)), style="dim")

    def show(self, positions: Sequence[BagProgress]) -> None:
        seconds = time.monotonic() - self._started
        self._live.update(table_of(positions, seconds=seconds, most_rows=self._console.height - FRAME_ROWS))

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class PlainProgress:
    """One line a change, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._shown: dict[str, str] = {}

    def say(self, text: str) -> None:
        seconds = time.monotonic() - self._started
        self._console.out(f"{seconds:7.1f} s  {one_line(text)}", highlight=False)

    def show(self, positions: Sequence[BagProgress]) -> None:
        for position in positions:
            line = line_of(position)
            if self._shown.get(position.request.replication_id) != line:
                self._shown[position.request.replication_id] = line
                self.say(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was opened."""


def table_of(positions: Sequence[BagProgress], *, seconds: float, most_rows: int) -> Table:
    """All positions as a table; where they do not fit, those that are done give way first."""
    done = sum(position.is_final for position in positions)
    title = f"{done} of {len(positions)} copies done, {seconds:.0f} s"
    shown = positions
    if len(positions) > most_rows:
        shown = sorted(positions, key=lambda position: position.is_final)[: max(1, most_rows)]
        title += f" ({len(positions) - len(shown)} more are not shown)"
    names = short_names([position.request.deposit.uuid for position in positions])
    table = Table(title=title, title_justify="left", expand=True)
    for name in ("bag", "node", "stage", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("note", overflow="ellipsis", no_wrap=True, ratio=1)
    for position in shown:
        style = STYLES.get(Status(position.status), "") if position.status else "dim"
        table.add_row(
            names[position.request.deposit.uuid],
            position.request.to_node,
            position.stage,
            Text(_status(position), style=style),
            _bytes(position),
            Text(one_line(position.note)),
        )
    return table


def line_of(position: BagProgress) -> str:
    """A position as one line."""
    where = f"{position.request.to_node:<7} {position.request.deposit.uuid}"
    return f"{where}  {position.stage:<8} {_status(position):<9} {one_line(position.note)}".rstrip()


def short_names(uuids: Sequence[str]) -> dict[str, str]:
    """The first digits of each bag's uuid, if they tell the bags apart, else the whole of it."""
    whole = set(uuids)
    short = {uuid: uuid[:SHORT_UUID] for uuid in whole}
    return short if len(set(short.values())) == len(whole) else {uuid: uuid for uuid in whole}


def one_line(text: str) -> str:
    """`text` without anything that a terminal would obey, but for line ends between printable lines."""
    lines = text.splitlines() or [""]
    return "\n".join(replaced(line, "\N{REPLACEMENT CHARACTER}") for line in lines)


def readable_bytes(count: int) -> str:
    """Bytes in base-10 units, as DPN counts them."""
    value = float(count)
    for unit in UNITS:
        if value < UNIT or unit == UNITS[-1]:
            return f"{count} {unit}" if unit == UNITS[0] else f"{value:.1f} {unit}"
        value /= UNIT
    raise AssertionError  # the loop always returns


def _status(position: BagProgress) -> str:
    return f"{position.status} !" if position.needs_attention else position.status


def _bytes(position: BagProgress) -> str:
    size = position.request.deposit.size
    if position.arrived_bytes >= size:
        return readable_bytes(size)
    return f"{readable_bytes(position.arrived_bytes)} of {readable_bytes(size)}"
