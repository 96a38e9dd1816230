"""bin/demo on real servers: NSQ, PostgreSQL, S3, Glacier. The bags arrive, and the servers end with the demo."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.fixtures.demos import Demo, Demos, alive, eventually, expect_verified, running_stage
from tests.fixtures.in_full import in_full

pytestmark = pytest.mark.slow

FULL = ("--broker", "nsq", "--database", "postgresql", "--store", "s3")


def servers(demo: Demo) -> dict[str, int]:
    """The pids of the servers that the demo has started."""
    found = {}
    for document in demo.workdir.glob("**/services.json"):
        entries = json.loads(document.read_text(encoding="utf-8"))["services"]
        found |= {f"{document.parent.parent.name}/{name}": entry["pid"] for name, entry in entries.items()}
    return found


def test_real_bags_arrive_over_nsq_postgresql_and_s3(demos: Demos, real_bags: list[Path]) -> None:
    demo = demos.start(*real_bags, *FULL)
    assert eventually(lambda: len(servers(demo)) == 8 or demo.process.poll() is not None)
    started = servers(demo)
    assert {name.partition("/")[2] for name in started} == {"nsqd", "nsqlookupd", "postgresql", "s3"}
    assert demo.wait() == 0, demo.problems
    expect_verified(demo, real_bags, nodes=("south", "west"))
    assert {copy["url"].split("/")[2] for copy in demo.copies()} == {"dpn-south", "dpn-west"}
    assert not any(alive(pid) for pid in started.values())
    assert not demo.workdir.exists()


@in_full
def test_what_lies_in_glacier_is_restored_to_be_read_back(demos: Demos, real_bags: list[Path]) -> None:
    demo = demos.run(real_bags[0], "--store", "glacier", "--nodes", "2", "--keep")
    expect_verified(demo, real_bags[:1], nodes=("south",))
    assert 'storage_class = "GLACIER"' in (demo.workdir / "south" / "node.toml").read_text(encoding="utf-8")
    assert f"bin/services up --dir '{demo.workdir / 'services'}' glacier" in demo.output


@in_full
def test_the_servers_of_a_demo_that_is_killed_are_stopped_too(demos: Demos, small_folder: Path) -> None:
    demo = demos.start(small_folder, *FULL)
    assert eventually(lambda: demo.processes("worker all") or demo.process.poll() is not None)
    started = servers(demo)
    demo.process.kill()
    demo.wait()
    assert eventually(lambda: not demo.processes(), seconds=10)
    assert eventually(lambda: not any(alive(pid) for pid in started.values()), seconds=30)
    assert eventually(lambda: not demo.workdir.exists(), seconds=10)


def test_a_message_queue_that_is_killed_with_all_it_held_delays_nothing_for_good(
    demos: Demos, large_folder: Path
) -> None:
    demo = demos.start(large_folder, "--broker", "nsq", "--nodes", "2")
    assert eventually(lambda: running_stage(demo, "south") == "copy")
    os.kill(servers(demo)["south/nsqd"], signal.SIGKILL)
    assert demo.wait() == 0, demo.problems
    assert all(copy["verified"] for copy in demo.copies())
