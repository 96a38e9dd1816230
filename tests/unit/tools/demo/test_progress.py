"""What the demo shows while bags travel."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tools.demo.deposit import Request
from tools.demo.progress import (
    LiveProgress,
    PlainProgress,
    line_of,
    open_progress,
    readable_bytes,
    short_names,
    table_of,
)
from tools.demo.watch import BagProgress


def console(output: io.StringIO, *, terminal: bool) -> Console:
    return Console(file=output, force_terminal=terminal, width=120)


def test_without_a_terminal_each_change_is_one_line_and_nothing_is_said_twice(requests: list[Request]) -> None:
    output = io.StringIO()
    progress = PlainProgress(console(output, terminal=False))
    first = [BagProgress(request, "copy", "running", "copying") for request in requests]
    progress.show(first)
    progress.show(first)
    progress.show([replace(first[0], stage="validate"), first[1]])
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    assert "south" in lines[2]
    assert "validate running" in lines[2]


def test_growing_bytes_alone_are_no_news_without_a_terminal(requests: list[Request]) -> None:
    output = io.StringIO()
    progress = PlainProgress(console(output, terminal=False))
    position = BagProgress(requests[0], "copy", "running", "copying", arrived_bytes=1)
    progress.show([position])
    progress.show([replace(position, arrived_bytes=30_000)])
    assert len(output.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_table_with_a_line_for_each_bag_and_node(requests: list[Request]) -> None:
    output = io.StringIO()
    with LiveProgress(console(output, terminal=True)) as progress:
        progress.say("south/worker (pid 7) was killed by SIGKILL: started again")
        progress.show([BagProgress(request, "copy", "running", "copying", 31_000) for request in requests])
    text = output.getvalue()
    assert "started again" in text
    for expected in ("0 of 2 copies done", "south", "west", "31.0 kB of 62.0 kB"):
        assert expected in text


def test_the_form_follows_what_the_output_is() -> None:
    assert isinstance(open_progress(console(io.StringIO(), terminal=True)), LiveProgress)
    assert isinstance(open_progress(console(io.StringIO(), terminal=False)), PlainProgress)


@pytest.mark.parametrize("note", ["\x1b[31mred", "a\rb", "[/red]", "\u202egnp.exe"])
def test_what_other_nodes_wrote_cannot_steer_a_terminal(requests: list[Request], note: str) -> None:
    position = BagProgress(requests[0], "copy", "failed", note)
    output = io.StringIO()
    console(output, terminal=False).print(table_of([position], seconds=1, most_rows=10))
    for text in (output.getvalue(), line_of(position)):
        assert not {"\x1b", "\r", "\u202e"} & set(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (61_952, "62.0 kB"), (10**9, "1.0 GB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_in_base_10_units(count: int, text: str) -> None:
    assert readable_bytes(count) == text


def test_where_not_all_fit_those_that_still_travel_are_shown(requests: list[Request]) -> None:
    done = [BagProgress(requests[0], "store", "success", "stored", item_id=number) for number in range(50)]
    output = io.StringIO()
    table = table_of([*done, BagProgress(requests[1], "copy", "running", "copying")], seconds=1, most_rows=3)
    console(output, terminal=False).print(table)
    assert table.row_count == 3
    assert "west" in output.getvalue()
    assert "48 more are not shown" in output.getvalue()


def test_bags_are_named_as_shortly_as_tells_them_apart() -> None:
    near = [f"00000000-0000-4000-a000-00000000000{number}" for number in range(3)]
    assert short_names(near) == {uuid: uuid for uuid in near}
    assert short_names([near[0], "a9f7cbab-b531-4eb7-b532-770f592629ba"])[near[0]] == "00000000"
