"""What a demo says at its end: the copies with their checksums, what is missing and why, and that as JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpn.files import replace_file
from tools.demo.copies import Copy
from tools.demo.corruption import Repair
from tools.demo.progress import one_line, readable_bytes
from tools.demo.watch import BagProgress, count_outcomes
from tools.network.errors import Unusable
from tools.network.node import RunningNode
from tools.network.place import Place

STDOUT = Path("-")


@dataclass(frozen=True)
class Result:
    """How it went."""

    seconds: float
    positions: Sequence[BagProgress]
    copies: Sequence[Copy]
    repairs: Sequence[Repair] = ()
    """The copies that were spoilt, and what became of them."""
    corrupted: bool = False
    """Whether copies were to be spoilt."""

    @property
    def ok(self) -> bool:
        """Whether every bag has a verified copy on every other node, and those that were spoilt were repaired."""
        if self.corrupted and not self.repairs:
            return False
        return all(copy.verified for copy in self.copies) and all(repair.repaired for repair in self.repairs)

    def to_json(self) -> dict[str, Any]:
        """In the form of `bin/demo --json`. `unfinished` is there only if an item has not ended, `repairs` only
        with `--corrupt`."""
        repairs = {"repairs": [repair.to_json() for repair in self.repairs]} if self.corrupted else {}
        return {
            **repairs,
            "seconds": round(self.seconds, 1),
            "items": dict(count_outcomes(self.positions)),
            "bags": [
                {
                    "uuid": deposit.uuid,
                    "local_id": deposit.local_id,
                    "size": deposit.size,
                    "tag_manifest_sha256": deposit.tag_manifest_sha256,
                    "source": deposit.source,
                    "copies": [_copy_as_json(copy) for copy in copies],
                }
                for deposit, copies in groupby(self.copies, key=lambda copy: copy.request.deposit)
            ],
        }


def check_json_file(path: Path | None) -> None:
    """Raises Unusable if no file could be written there; folders that are missing will be made."""
    if path is None or path == STDOUT:
        return
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not (there.is_dir() and os.access(there, os.W_OK)):
        raise Unusable(f"--json {path}: cannot be written: name a file in a folder that you may write")


def write_json(result: Result, path: Path) -> None:
    """Writes the JSON document, whole or not at all. Raises OSError."""
    text = json.dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path.absolute()) as file:
        file.write(text.encode("utf-8"))


def print_result(result: Result, nodes: Mapping[str, RunningNode], console: Console) -> None:
    """The copies, a sentence, and of each missing copy why and where to look."""
    if console.is_terminal:
        console.print(_table(result.copies))
    else:
        for copy in result.copies:
            console.out(_line(copy), highlight=False)
    for repair in result.repairs:
        console.out(_repair_line(repair), highlight=False)
    good = sum(copy.verified for copy in result.copies)
    console.out(f"{good} of {len(result.copies)} copies verified, in {result.seconds:.1f} s", highlight=False)
    why = {position.request.replication_id: position for position in result.positions}
    for copy in result.copies:
        if not copy.verified:
            place = nodes[copy.request.to_node].place
            position = why[copy.request.replication_id]
            console.out(_excuse(copy, position, place), highlight=False)


def _copy_as_json(copy: Copy) -> dict[str, Any]:
    return {
        "node": copy.request.to_node,
        "url": copy.url,
        "bytes": copy.bytes,
        "sha256": copy.sha256,
        "verified": copy.verified,
    }


def _table(copies: Sequence[Copy]) -> Table:
    table = Table(title="Copies, read back from their stores", title_justify="left")
    table.add_column("bag", no_wrap=True)
    table.add_column("node", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("SHA-256 of the stored tar", overflow="fold")
    table.add_column("verified", no_wrap=True)
    for copy in copies:
        mark = Text("yes", style="green") if copy.verified else Text("NO", style="bold red")
        table.add_row(
            copy.request.deposit.uuid, copy.request.to_node, readable_bytes(copy.bytes), copy.sha256 or "-", mark
        )
    return table


def _line(copy: Copy) -> str:
    verdict = "verified" if copy.verified else "MISSING "
    where = f"{copy.request.to_node:<7} {copy.request.deposit.uuid}"
    return f"{verdict}  {where}  {copy.bytes} bytes  sha256 {copy.sha256 or '-'}  {copy.url or '-'}"


def _repair_line(repair: Repair) -> str:
    if not repair.repaired:
        return one_line(f"NOT REPAIRED  {repair.node:<7} {repair.bag}  {repair.damage}: {repair.note}")
    return one_line(
        f"repaired  {repair.node:<7} {repair.bag}  {repair.damage}; found by fixity check {repair.check_id}, "
        f"replaced by a copy from {repair.source}, good in fixity check {repair.check_after_id}"
    )


def items_command(place: Place) -> str:
    """What an operator types to see a node's work items."""
    return f"dpn --config {shlex.quote(str(place.settings_file))} items"


def _excuse(copy: Copy, position: BagProgress, place: Place) -> str:
    item = "no work item" if position.item_id is None else f"item {position.item_id}"
    return one_line(
        f"no verified copy of {copy.request.deposit.uuid} at {copy.request.to_node}: "
        f"{copy.problem or 'its bytes are not those that were deposited'}\n"
        f"  {item}, {position.stage} {position.status or 'not begun'}: {position.note}\n"
        f"  logs: {place.logs}\n"
        f"  {items_command(place)}"
    )
