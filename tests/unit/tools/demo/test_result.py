"""What the demo says at its end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tools.demo.copies import Copy
from tools.demo.deposit import Request
from tools.demo.report import Result, check_json_file, print_result, write_json
from tools.demo.watch import BagProgress
from tools.network.errors import Unusable
from tools.network.place import Place

URL = "file:///demo/south/store/a9f7cbab-b531-4eb7-b532-770f592629ba.tar"


def good(request: Request) -> Copy:
    return Copy(request, URL, request.deposit.size, request.deposit.sha256)


def finished(request: Request) -> BagProgress:
    return BagProgress(request, "store", "success", "stored", request.deposit.size, item_id=1)


@pytest.fixture
def whole(requests: list[Request]) -> Result:
    return Result(12.345, [finished(request) for request in requests], [good(request) for request in requests])


@pytest.fixture
def half(requests: list[Request]) -> Result:
    note = "the bag is invalid\x1b[2J: [bold]data/a.txt\nhas another digest"
    positions = [finished(requests[0]), BagProgress(requests[1], "validate", "failed", note, item_id=7)]
    return Result(1, positions, [good(requests[0]), Copy(requests[1], None, problem="the store does not have it")])


def printed(result: Result, *, terminal: bool) -> str:
    nodes: Any = {name: SimpleNamespace(place=Place(name, Path("/demo") / name)) for name in ("south", "west")}
    output = io.StringIO()
    print_result(result, nodes, Console(file=output, width=140, force_terminal=terminal))
    return output.getvalue()


def test_the_json_document_has_the_form_that_others_script_against(whole: Result, tmp_path: Path) -> None:
    write_json(whole, tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["seconds"] == 12.3
    assert document["items"] == {"success": 2, "failed": 0}
    (bag,) = document["bags"]
    assert set(bag) == {"uuid", "local_id", "size", "tag_manifest_sha256", "source", "copies"}
    assert bag["local_id"] == "Test-0001"
    assert bag["source"] == "bags/one.tar"
    assert bag["copies"][0] == {"node": "south", "url": URL, "bytes": 61952, "sha256": "ab" * 32, "verified": True}
    assert [copy["node"] for copy in bag["copies"]] == ["south", "west"]


def test_a_missing_copy_is_in_the_document_and_not_verified(half: Result) -> None:
    document = half.to_json()
    assert document["items"] == {"success": 1, "failed": 1}
    assert document["bags"][0]["copies"][1] == {
        "node": "west",
        "url": None,
        "bytes": 0,
        "sha256": None,
        "verified": False,
    }


def test_an_item_that_has_not_ended_is_neither_success_nor_failure(requests: list[Request]) -> None:
    result = Result(1, [finished(requests[0]), BagProgress(requests[1])], [])
    assert result.to_json()["items"] == {"success": 1, "failed": 0, "unfinished": 1}


@pytest.mark.parametrize("damage", [{"sha256": "00" * 32}, {"bytes": 61951}, {"sha256": None}])
def test_other_bytes_than_those_deposited_are_no_copy(requests: list[Request], damage: dict[str, Any]) -> None:
    held = {"bytes": requests[0].deposit.size, "sha256": requests[0].deposit.sha256} | damage
    copy = Copy(requests[0], URL, **held)
    assert not copy.verified
    assert not Result(1, [finished(requests[0])], [copy]).ok


@pytest.mark.parametrize("terminal", [True, False])
def test_a_missing_copy_is_explained_with_its_note_and_where_its_log_is(half: Result, terminal: bool) -> None:
    text = printed(half, terminal=terminal)
    assert "1 of 2 copies verified" in text
    assert "item 7, validate failed: the bag is invalid" in text
    assert "/demo/west/logs" in text
    assert "dpn --config /demo/west/node.toml items" in text


def test_a_hostile_note_cannot_steer_the_terminal(half: Result) -> None:
    text = printed(half, terminal=False)
    assert "\x1b" not in text
    assert "[bold]data/a.txt" in text


def test_checksums_stand_whole_on_one_line_for_scripts(whole: Result) -> None:
    lines = printed(whole, terminal=False).splitlines()
    assert f"sha256 {'ab' * 32}  {URL}" in lines[0]
    assert lines[-1] == "2 of 2 copies verified, in 12.3 s"


def test_a_place_for_the_document_that_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for unusable in (tmp_path, tmp_path / "file" / "out.json"):
        with pytest.raises(Unusable, match="cannot be written"):
            check_json_file(unusable)


def test_missing_folders_of_the_document_are_made(whole: Result, tmp_path: Path) -> None:
    check_json_file(tmp_path / "new" / "out.json")
    write_json(whole, tmp_path / "new" / "out.json")
    assert (tmp_path / "new" / "out.json").exists()
