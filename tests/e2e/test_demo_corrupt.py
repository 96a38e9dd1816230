"""bin/demo --corrupt: stored copies go bad, their nodes find out, record it and repair them from other nodes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.fixtures.demos import Demo, Demos
from tests.fixtures.in_full import some_of
from tools.network.environment import clean_environment

pytestmark = pytest.mark.slow


def expect_repaired(demo: Demo, *nodes: str) -> None:
    repairs = demo.document()["repairs"]
    assert [(repair["node"], repair["repaired"]) for repair in repairs] == [(node, True) for node in nodes]
    for repair in repairs:
        assert repair["fixity_check_before"]["success"] is False
        assert repair["fixity_check_after"]["success"] is True
        assert repair["fixity_check_before"]["id"] != repair["fixity_check_after"]["id"]
        assert repair["repaired_from"] not in (None, repair["node"])
    assert [repair["damage"] for repair in repairs] == ["bit flip in the payload", "deleted"][: len(nodes)]
    assert all(copy["verified"] for copy in demo.copies())


def test_a_flipped_bit_and_a_deleted_copy_are_found_and_repaired_and_the_trail_tells_it(
    demos: Demos, small_folder: Path
) -> None:
    demo = demos.run(small_folder, "--corrupt", "--keep")
    expect_repaired(demo, "south", "west")
    assert demo.output.count("repaired  ") == 2
    for copy in demo.copies():
        path = Path(unquote(urlsplit(copy["url"]).path))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == copy["sha256"]
    show = shlex.split(next(line for line in demo.output.splitlines() if "south" in line and " items" in line))
    bag = demo.document()["bags"][0]["uuid"]
    command = (sys.executable, "-P", "-m", "dpn.cli.main", *show[1:-1], "fixity", "history", bag, "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment(os.environ))
    story = [(event["event"], event["outcome"]) for event in json.loads(done.stdout)]
    told = [
        ("fixity check", "failure"),
        ("copy requested", "pending"),
        ("transfer", "success"),
        ("validation", "success"),
        ("copy replaced", "success"),
        ("fixity check", "success"),
    ]
    # In this order; between them and after them it may have been read and sent for the other node's repair.
    happened = iter(story)
    assert all(event in happened for event in told), story


@pytest.mark.parametrize("store", some_of(["glacier", "s3"]))
def test_copies_on_an_s3_server_are_repaired_too(demos: Demos, small_folder: Path, store: str) -> None:
    demo = demos.run(small_folder, "--corrupt", "--nodes", "2", "--broker", "nsq", "--store", store)
    expect_repaired(demo, "south")
