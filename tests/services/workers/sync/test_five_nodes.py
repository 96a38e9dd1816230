"""Five nodes, whatever they do and whatever dies meanwhile, come to the same registry on each by syncing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dpn.registry.catalogue import BAGS, FIXITY_CHECKS
from tests.fixtures.honest_nodes import DAILY, GROWTH, Act, HonestNodes, disagreements, found
from tests.fixtures.network import Moment, NetworkNode, running_network
from tests.fixtures.seed import NODES, Seed

Nodes = dict[str, NetworkNode]

AN_HOUR = 3600
ROUNDS = len(NODES) - 1
"""How often each node syncs, once nothing happens any more, before all must agree. A change of a member
travels from node to node, along who told whom of it first, and they may sync in the opposite order."""

PAUSES_SECONDS = (0, 1, 20 * 60, 3 * AN_HOUR)
STEPS = range(10, 30)

BOUNDED = settings(
    max_examples=2, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate), print_blob=True
)
"""An example is some thirty syncs, a few seconds. What fails is not shrunk: that would run it over and over."""


class Step(Protocol):
    """Something that happens in the network."""

    def happen(self, honest: HonestNodes) -> None: ...


@dataclass(frozen=True)
class Syncs:
    """A node syncs with all peers, or one."""

    node: int
    peer: int | None = None
    full: bool = False

    def happen(self, honest: HonestNodes) -> None:
        node = nth(honest, self.node)
        only = None if self.peer is None else nth(honest, self.peer).namespace
        if only != node.namespace:
            with nothing_of_its_own_changes(honest, node):
                node.sync(only=only, full=self.full)


@dataclass(frozen=True)
class DiesSyncing:
    """A node syncs with all peers and is killed at a commit, just before or just after it."""

    node: int
    at_commit: int
    committed: bool

    def happen(self, honest: HonestNodes) -> None:
        node = nth(honest, self.node)
        with nothing_of_its_own_changes(honest, node):
            node.sync_that_dies(at_commit=self.at_commit, committed=self.committed)


@dataclass(frozen=True)
class DiesServing:
    """A node's server will die at one of the next requests, whoever's it is."""

    node: int
    requests_from_now: int
    moment: Moment

    def happen(self, honest: HonestNodes) -> None:
        nth(honest, self.node).server.die_at(self.requests_from_now, self.moment)


@dataclass(frozen=True)
class Restarts:
    """The servers that are dead are started again."""

    def happen(self, honest: HonestNodes) -> None:
        for node in honest.nodes.values():
            node.start()


@dataclass(frozen=True)
class Acts:
    """A node does what it does from day to day."""

    act: str
    who: int
    which: int

    def happen(self, honest: HonestNodes) -> None:
        (DAILY | GROWTH)[self.act](honest, self.who, self.which)


@dataclass(frozen=True)
class Schedule:
    """What happens, after which pause each, and in which order the nodes sync in the end."""

    steps: tuple[tuple[int, Step], ...]
    skewed: int
    skew_seconds: int
    order: tuple[int, ...]

    def run(self, honest: HonestNodes) -> None:
        nth(honest, self.skewed).clock.advance(self.skew_seconds)
        for pause_seconds, step in self.steps:
            wait(honest, pause_seconds)
            step.happen(honest)
        self.settle(honest)

    def settle(self, honest: HonestNodes) -> None:
        """The dead are started, what was begun is finished, and then nothing happens but syncs."""
        spare(honest)
        self.one_round(honest)
        for who in range(len(honest.nodes)):
            honest.take_over(who, 0)
            honest.post_what_is_owed(who, 0)
        assert not honest.owed
        assert not honest.handed_over
        for _ in range(ROUNDS):
            wait(honest, AN_HOUR)
            self.one_round(honest)
            if not disagreements(honest):
                break

    def one_round(self, honest: HonestNodes) -> None:
        for number in self.order:
            node = nth(honest, number)
            with nothing_of_its_own_changes(honest, node):
                results = node.sync()
            assert all(result.ok for result in results), [result.error for result in results]


def schedules(acts: dict[str, Act]) -> st.SearchStrategy[Schedule]:
    node = st.integers(0, len(NODES) - 1)
    doing = st.builds(Acts, st.sampled_from(sorted(acts)), node, st.integers(0, 255))
    steps = st.one_of(
        st.builds(Syncs, node),
        st.builds(Syncs, node, node, st.booleans()),
        st.builds(DiesSyncing, node, st.integers(1, 40), st.booleans()),
        st.builds(DiesServing, node, st.integers(1, 40), st.sampled_from(Moment)),
        st.builds(Restarts),
        *[doing] * 5,
    )
    return st.builds(
        Schedule,
        st.lists(st.tuples(st.sampled_from(PAUSES_SECONDS), steps), min_size=STEPS.start, max_size=STEPS.stop).map(
            tuple
        ),
        node,
        st.sampled_from((0, AN_HOUR, -AN_HOUR)),
        st.permutations(range(len(NODES))).map(tuple),
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with running_network(NODES, tmp_path_factory.mktemp("network")) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def seed(shared_data: Path) -> Seed:
    return Seed(shared_data / "registry-seed")


def with_the_seed(network: Nodes, seed: Seed) -> HonestNodes:
    """Each node with its own records only; the checks of bags that it does not know yet, it still has to post."""
    honest = at_first(network)
    for name, node in network.items():
        members = seed.members_of(name)
        honest.homes |= {member.member_id: name for member in members}
        node.load([*members, *seed.records_of(name)])
        honest.owed += seed.fixity_checks_by(name)
    return honest


def with_bags_of_all_types(network: Nodes) -> HonestNodes:
    """Each node with a member and four bags, which all have heard of."""
    honest = at_first(network)
    for who in range(len(network)):
        honest.create_a_member(who, 0)
        for bag_type_and_family in (1, 2, 3, 4):
            honest.ingest_a_bag(who, bag_type_and_family)
    for node in network.values():
        node.sync()
    return honest


def at_first(network: Nodes) -> HonestNodes:
    """The nodes, empty, their clocks together."""
    latest = max(node.clock.now() for node in network.values())
    for node in network.values():
        node.server.spare()
        node.start()
        node.clock.advance((latest - node.clock.now()).total_seconds())
    for node in network.values():
        node.empty()
    return HonestNodes(network)


@pytest.mark.slow
@BOUNDED
@given(schedule=schedules(DAILY))
def test_the_seed_comes_to_the_same_end_on_all_five_whatever_happens_on_the_way(
    network: Nodes, seed: Seed, schedule: Schedule
) -> None:
    honest = with_the_seed(network, seed)
    schedule.run(honest)
    assert disagreements(honest) == []
    for node in network.values():
        counted = counts(node)
        assert counted.pop("fixity_check") >= 25
        assert counted.pop("ingest") >= 5
        assert counted == {"node": 5, "member": 5, "bag": 5, "digest": 5, "replicate": 20, "restore": 20}
    nothing_more_changes(honest)


@pytest.mark.slow
@BOUNDED
@given(schedule=schedules(DAILY | GROWTH))
def test_any_honest_network_comes_to_the_same_end_on_all_five(network: Nodes, schedule: Schedule) -> None:
    honest = with_bags_of_all_types(network)
    schedule.run(honest)
    assert disagreements(honest) == []
    nothing_more_changes(honest)


def test_one_round_of_syncs_brings_the_seed_to_all(network: Nodes, seed: Seed) -> None:
    honest = with_the_seed(network, seed)
    Schedule((), 0, 0, (3, 1, 4, 0, 2)).settle(honest)
    expected = {"node": 5, "member": 5, "bag": 5, "digest": 5, "ingest": 5, "replicate": 20, "restore": 20}
    for node in network.values():
        assert counts(node) == expected | {"fixity_check": 25}
    assert disagreements(honest) == []
    nothing_more_changes(honest)


def test_a_bag_that_changed_hands_comes_to_those_who_had_not_heard_of_it_with_all_that_belongs_to_it(
    network: Nodes, seed: Seed
) -> None:
    honest = with_the_seed(network, seed)
    network["chron"].sync(only="aptrust")
    honest.hand_over(NODES.index("aptrust"), 0)
    [bag] = [bag for bag in found(network["chron"], BAGS).values() if bag.ingest_node == "aptrust"]
    assert bag.admin_node == "chron"
    Schedule((), 0, 0, (4, 3, 2, 1, 0)).settle(honest)
    assert disagreements(honest) == []
    assert all(counts(node)["replicate"] == 20 for node in network.values())


@pytest.mark.parametrize("skew_seconds", [-AN_HOUR, AN_HOUR])
def test_stamps_of_a_clock_that_is_off_hide_nothing_that_its_heir_changes_later(
    network: Nodes, seed: Seed, skew_seconds: int
) -> None:
    """The bag carries the stamps of its last admin node into the lists of the next one."""
    honest = with_the_seed(network, seed)
    sdr, tdr = network["sdr"], network["tdr"]
    sdr.clock.advance(skew_seconds)
    tdr.sync(only="sdr")
    honest.hand_over(NODES.index("sdr"), 0)
    for which in (0, 4, 8, 12):
        wait(honest, 15 * 60)
        honest.edit_a_bag(NODES.index("tdr"), which)
        sdr.sync(only="tdr")
        of_tdr = [bag for bag in found(tdr, BAGS).values() if bag.admin_node == "tdr"]
        assert len(of_tdr) == 2
        assert [found(sdr, BAGS)[bag.uuid] for bag in of_tdr] == of_tdr


def test_what_is_entered_late_with_stamps_of_long_ago_is_not_missed(network: Nodes, seed: Seed) -> None:
    honest = with_the_seed(network, seed)
    sdr, tdr = network["sdr"], network["tdr"]
    sdr.sync(only="tdr")
    honest.check_a_copy(NODES.index("sdr"), 1)
    tdr.sync(only="sdr")
    wait(honest, AN_HOUR)
    honest.post_what_is_owed(NODES.index("sdr"), 0)
    tdr.sync(only="sdr")
    of_sdr = {check.key for check in found(sdr, FIXITY_CHECKS).values() if check.bag in found(tdr, BAGS)}
    assert len(of_sdr) > 2
    assert {check.key for check in found(tdr, FIXITY_CHECKS).values()} == of_sdr


def test_the_seed_as_its_own_servers_had_it_counts_as_it_did_there(network: Nodes, seed: Seed) -> None:
    """There every server had all members, and the checks of its own bag by all five: of these, only those that a
    peer made itself are its to tell. Five of one's own bag and one by each of four peers are nine."""
    honest = at_first(network)
    for name, node in network.items():
        node.load([*seed.members(), *seed.records_of(name), *seed.fixity_checks_at(name)])
    for _ in range(2):
        for node in network.values():
            assert all(result.ok for result in node.sync())
    for node in network.values():
        assert counts(node) == {
            "node": 5,
            "member": 5,
            "bag": 5,
            "digest": 5,
            "ingest": 5,
            "fixity_check": 9,
            "replicate": 20,
            "restore": 20,
        }
    nothing_more_changes(honest)


def nth(honest: HonestNodes, number: int) -> NetworkNode:
    return list(honest.nodes.values())[number]


def wait(honest: HonestNodes, seconds: float) -> None:
    for node in honest.nodes.values():
        node.clock.advance(seconds)


def spare(honest: HonestNodes) -> None:
    """No more deaths; who is dead is started."""
    for node in honest.nodes.values():
        node.server.spare()
        node.start()


def counts(node: NetworkNode) -> Counter[str]:
    return Counter(key[0] for key in node.records())


@contextmanager
def nothing_of_its_own_changes(honest: HonestNodes, node: NetworkNode) -> Iterator[None]:
    """Of what is the node's own, peers only ever have copies: no sync changes it."""
    before = honest.own_records(node)
    yield
    after = node.records()
    changed = {key: (record, after.get(key)) for key, record in before.items() if after.get(key) != record}
    assert changed == {}


def nothing_more_changes(honest: HonestNodes) -> None:
    """Syncs of what is known already, whole ones too, write nothing."""
    before = {name: (node.records(), node.list_states()) for name, node in honest.nodes.items()}
    results = [result for node in honest.nodes.values() for result in node.sync()]
    results += nth(honest, 0).sync(full=True)
    for result in results:
        assert result.ok
        assert sum(of_type.added + of_type.updated for of_type in result.types.values()) == 0, result
    assert {name: (node.records(), node.list_states()) for name, node in honest.nodes.items()} == before
