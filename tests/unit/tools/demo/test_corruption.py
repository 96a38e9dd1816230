"""What `bin/demo --corrupt` spoils, and when it says that a copy was repaired."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.fixtures.made_bags import UUID, bag_files, tar_bag
from tools.demo.corruption import Repair, victims
from tools.demo.damage import Damage, flip_a_bit
from tools.demo.deposit import DemoBag, Request
from tools.demo.report import Result, print_result
from tools.network.errors import Broken

REPAIRED = Repair(
    "south",
    UUID,
    Damage.BIT_FLIP,
    check_id="before",
    found="data/a.txt is not what it was",
    recorded_bad=True,
    item_id=3,
    ended=True,
    source="north",
    check_after_id="after",
    recorded_good=True,
)


def request(node: str, bag: str = UUID) -> Request:
    return Request(DemoBag("there", bag, "a thing", 1, "ab" * 32, "cd" * 32), node, f"{bag} to {node}")


def test_one_bit_of_the_payload_flips_and_nothing_else_shows_it(tmp_path: Path) -> None:
    tar = tar_bag(tmp_path)
    tar.chmod(0o444)
    os.utime(tar, ns=(1_600_000_000_000_000_000, 1_600_000_000_000_000_000))
    before, seen = tar.read_bytes(), tar.stat()
    flip_a_bit(tar)
    after = tar.read_bytes()
    differ = [position for position, byte in enumerate(before) if byte != after[position]]
    assert len(differ) == 1
    assert (before[differ[0]] ^ after[differ[0]]).bit_count() == 1
    assert b"/data/" in before[: differ[0]][-600:]
    now = tar.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_mode) == (seen.st_size, seen.st_mtime_ns, seen.st_mode)


def test_a_bag_without_payload_is_said_not_to_be_damageable(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="no payload"):
        flip_a_bit(tar_bag(tmp_path, bag_files({})))


def test_a_bit_flips_at_the_first_node_and_the_second_loses_its_copy() -> None:
    asked = [request("south"), request("west"), request("east")]
    chosen = [("south", UUID, Damage.BIT_FLIP), ("west", UUID, Damage.DELETED)]
    assert victims(asked, ["south", "west", "east"]) == chosen
    assert victims(asked[:1], ["south"]) == chosen[:1]
    assert victims([], ["south", "west"]) == []


@pytest.mark.parametrize(
    "missing",
    [{"recorded_bad": False}, {"source": None}, {"recorded_good": False}],
    ids=["not recorded as bad", "not replaced", "not found good"],
)
def test_a_copy_counts_as_repaired_only_if_all_of_it_is_on_record(missing: dict[str, object]) -> None:
    assert REPAIRED.repaired
    half = replace(REPAIRED, **missing)  # type: ignore[arg-type]
    assert not half.repaired
    assert not Result(1, [], [], [REPAIRED, half], corrupted=True).ok
    assert Result(1, [], [], [REPAIRED], corrupted=True).ok
    assert not Result(1, [], [], [], corrupted=True).ok, "nothing was shown"


def test_the_result_tells_of_repairs_only_where_copies_were_spoilt() -> None:
    assert "repairs" not in Result(1, [], []).to_json()
    (told,) = Result(1, [], [], [REPAIRED], corrupted=True).to_json()["repairs"]
    assert (told["node"], told["damage"], told["repaired_from"]) == ("south", "bit flip in the payload", "north")
    assert told["fixity_check_before"] == {"id": "before", "success": False}
    assert told["fixity_check_after"] == {"id": "after", "success": True}
    console = Console(record=True, width=300, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    failed = replace(REPAIRED, node="west", source=None, note="no node gave us a good copy")
    print_result(Result(1, [], [], [REPAIRED, failed], corrupted=True), {}, console)
    text = console.export_text()
    assert "repaired  south" in text
    assert "NOT REPAIRED  west" in text
    assert "no node gave us a good copy" in text
