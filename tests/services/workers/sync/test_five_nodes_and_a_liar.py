"""A sixth node shows the five their own records, changed: it changes none of them, nor holds it up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dpn.registry.records import Record
from tests.fixtures.honest_nodes import DAILY, HonestNodes, Key, differences
from tests.fixtures.nasty.peer import NastyPeer
from tests.fixtures.network import NetworkNode, running_network
from tests.fixtures.records import OTHER_DIGEST, uuid
from tests.fixtures.seed import NODES, Seed

LIAR = "liar"
ONE_DAY = timedelta(days=1)
MOST_LIES = 60
EXAMPLES = 1

LIES: dict[str, tuple[Mapping[str, Any], ...]] = {
    "node": ({"name": "Liar"}, {"ssh_pubkey": "ssh-ed25519 liar"}, {"api_root": "http://liar.example.org"}),
    "member": ({"name": "Liar"}, {"email": "liar@example.org"}),
    "bag": (
        {"admin_node": LIAR},
        {"ingest_node": LIAR},
        {"local_id": "a lie"},
        {"size": 1},
        {"member": uuid(1)},
        {"replicating_nodes": (LIAR,)},
        {"replicating_nodes": ()},
    ),
    "digest": ({"node": LIAR}, {"value": OTHER_DIGEST}),
    "ingest": ({"ingested": False}, {"replicating_nodes": (LIAR,)}),
    "fixity_check": ({"node": LIAR}, {"success": False}, {"success": True}),
    "replicate": (
        {"from_node": LIAR},
        {"to_node": LIAR},
        {"link": "liar@example.org:a.tar"},
        {"fixity_value": OTHER_DIGEST},
        {"store_requested": True},
        {"stored": True},
        {"cancelled": True, "cancel_reason": "other"},
    ),
    "restore": (
        {"to_node": LIAR},
        {"from_node": LIAR},
        {"link": "liar@example.org:a.tar"},
        {"accepted": True},
        {"finished": True},
        {"cancelled": True, "cancel_reason": "other"},
    ),
}
"""What the liar changes of a record of each kind; the first is that it is its own, where that can be said."""


@dataclass(frozen=True)
class Lie:
    """One of all the records with some of its fields changed, told as of tomorrow."""

    which: int
    changes: int
    """A bit for each of the kind's LIES."""

    def of(self, records: Mapping[Key, Record]) -> tuple[str, Record]:
        key = sorted(records)[self.which % len(records)]
        record, kind = records[key], key[0]
        fields = {
            name: value
            for number, change in enumerate(LIES[kind])
            if self.changes >> number & 1
            for name, value in change.items()
        }
        if record.STAMP == "updated_at":
            fields["updated_at"] = record.stamp + ONE_DAY
        return kind, record.change(**fields)


@pytest.fixture(scope="module")
def liar() -> Iterator[NastyPeer]:
    with NastyPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def honest(liar: NastyPeer, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HonestNodes]:
    """The seed on five nodes that have synced; the liar is a peer of each."""
    seed = Seed(shared_data / "registry-seed")
    with running_network(NODES, tmp_path_factory.mktemp("network"), {LIAR: liar.url}) as nodes:
        for name, node in nodes.items():
            node.empty()
            node.load([*seed.members_of(name), *seed.records_of(name)])
        for node in nodes.values():
            node.sync()
        yield HonestNodes(nodes, {m.member_id: name for name in nodes for m in seed.members_of(name)})


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    lies=st.lists(st.builds(Lie, st.integers(0, 1000), st.integers(1, 255)), min_size=10, max_size=MOST_LIES),
    acts=st.lists(st.tuples(st.sampled_from(sorted(DAILY)), st.integers(0, 4), st.integers(0, 255)), max_size=8),
)
def test_nobody_believes_a_node_about_what_is_anothers(
    honest: HonestNodes, liar: NastyPeer, lies: list[Lie], acts: list[tuple[str, int, int]]
) -> None:
    before = {name: of_the_five(node) for name, node in honest.nodes.items()}
    liar.answers = shown(lie.of(before["tdr"]) for lie in lies)
    for name, node in honest.nodes.items():
        node.clock.advance(ONE_DAY.total_seconds())
        node.sync(only=LIAR)
        assert of_the_five(node) == before[name]
    # What the owners change goes on arriving, whatever the liar has said of it.
    for act, who, which in acts:
        DAILY[act](honest, who, which)
    for _ in range(len(NODES) - 1):
        for node in honest.nodes.values():
            node.sync()
        if not (unlike := disagreements_of_the_five(honest)):
            break
    assert unlike == {}


def disagreements_of_the_five(honest: HonestNodes) -> dict[tuple[str, Key], Any]:
    truth = {key: record for node in honest.nodes.values() for key, record in honest.own_records(node).items()}
    unlike: dict[tuple[str, Key], Any] = {}
    for name, node in honest.nodes.items():
        here = of_the_five(node)
        unlike |= {(name, key): "there or not" for key in here.keys() ^ truth.keys()}
        pairs = ((key, differences(truth[key], here[key])) for key in here.keys() & truth.keys())
        unlike |= {(name, key): differing for key, differing in pairs if differing}
    return unlike


def shown(records: Iterable[tuple[str, Record]]) -> dict[str, Any]:
    """A server's answers: whatever it is asked of a list, all that it has."""
    rows: dict[str, dict[Key, Any]] = {kind: {} for kind in LIES}
    for kind, record in records:
        rows[kind][record.key] = record.to_wire()
    lists = {kind: list(of_kind.values()) for kind, of_kind in rows.items()}
    answers: dict[str, Any] = {
        f"/api-v2/{kind}/": {"count": len(shown), "next": None, "previous": None, "results": shown}
        for kind, shown in lists.items()
    }
    for node in lists["node"]:
        answers[f"/api-v2/node/{LIAR}/"] = node
    return answers


def of_the_five(node: NetworkNode) -> dict[Key, Record]:
    """All that is there, but for the liar's own node record."""
    return {key: record for key, record in node.records().items() if key != ("node", LIAR)}
