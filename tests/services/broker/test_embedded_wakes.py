"""Without a broker process, workers hear of new work through the database at once, however seldom they poll."""

from __future__ import annotations

import pytest

from tests.fixtures.scripted.node import NEVER_SECONDS, MakeNode, ScriptedNode

POLL_SECONDS = 30.0
WORST_SECONDS = POLL_SECONDS / 10
"""On a busy machine; a poll alone would take half of its pause."""


@pytest.fixture(params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest, make_node: MakeNode) -> ScriptedNode:
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "migrated_url")
    return make_node(url, {"kind": "embedded", "poll_seconds": POLL_SECONDS})


def test_an_item_runs_through_the_stages_of_several_workers_without_a_poll(node: ScriptedNode) -> None:
    for stage in ("copy", "validate", "store"):
        node.start(stage, stage, sweep_seconds=NEVER_SECONDS, chore_seconds=NEVER_SECONDS).await_started()
    item = node.make_item()
    node.announce(item)
    node.await_run(item, "store", within=WORST_SECONDS)
