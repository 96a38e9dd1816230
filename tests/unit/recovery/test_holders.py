"""Whom to ask for a bag: holders only, whoever failed last, the same order from the same records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.database import Sessions, reading
from dpn.recovery.holders import candidates, ranked
from dpn.registry.catalogue import BAGS, FIXITY_CHECKS
from dpn.registry.catalogue.rows import save
from dpn.registry.records import FixityCheckRecord
from tests.fixtures.catalogue import catalogue_of_north
from tests.fixtures.records import LONG_AGO, a_bag, uuid

DAY = timedelta(days=1)


def check(number: int, node: str, *, good: bool, days: int) -> FixityCheckRecord:
    at = LONG_AGO + days * DAY
    return FixityCheckRecord(
        fixity_check_id=uuid(number), bag=uuid(1), node=node, success=good, fixity_at=at, created_at=at
    )


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    url = f"sqlite:///{tmp_path / 'north.db'}"
    with catalogue_of_north(url, tmp_path, ["south", "west", "east", "centre"]) as sessions:
        with sessions.begin() as session:
            nodes = ("centre", "east", "north", "south", "west")
            save(session, BAGS, [a_bag(1, admin_node="south", ingest_node="south", replicating_nodes=nodes)])
            save(session, BAGS, [a_bag(2, admin_node="south", ingest_node="west", replicating_nodes=("north",))])
        yield sessions


def ask(sessions: Sessions, bag: int = 1, peers: str = "centre east south west", prefer: str = "") -> list[str]:
    with reading(sessions) as session:
        return candidates(session, uuid(bag), us="north", peers=peers.split(), prefer=prefer.split())


def test_only_peers_that_hold_the_bag_are_asked_and_never_ourselves(sessions: Sessions) -> None:
    assert ask(sessions, peers="north south elsewhere") == ["south"]
    assert ask(sessions, bag=2) == ["south", "west"], "its admin node and who ingested it have it, too"
    assert ask(sessions, bag=3) == [], "unknown"


def test_the_copy_that_was_proven_last_comes_first_and_the_one_that_failed_last(sessions: Sessions) -> None:
    with sessions.begin() as session:
        save(
            session,
            FIXITY_CHECKS,
            [
                check(1, "south", good=True, days=1),
                check(2, "west", good=False, days=1),
                check(3, "west", good=True, days=2),
                check(4, "centre", good=True, days=9),
                check(5, "centre", good=False, days=10),
            ],
        )
    assert ask(sessions) == ["west", "south", "east", "centre"]
    assert ask(sessions, prefer="centre east") == ["east", "west", "south", "centre"], "a failed copy stays last"


def test_a_check_of_another_bag_does_not_count(sessions: Sessions) -> None:
    with sessions.begin() as session:
        other = check(1, "centre", good=False, days=1).change(bag=uuid(2))
        save(session, FIXITY_CHECKS, [other])
    assert ask(sessions) == ["centre", "east", "south", "west"]


names = st.sampled_from(["a", "b", "c", "d", "e"])


@settings(deadline=None)
@given(
    nodes=st.permutations(["a", "b", "c", "d", "e"]),
    checks=st.dictionaries(names, st.tuples(st.booleans(), st.just(LONG_AGO) | st.just(LONG_AGO + DAY))),
    prefer=st.lists(names),
)
def test_the_order_is_that_of_the_records_alone_and_leaves_nobody_out(nodes, checks, prefer) -> None:
    order = ranked(nodes, checks, prefer)
    assert order == ranked(sorted(nodes), checks, prefer)
    assert sorted(order) == sorted(nodes)
    failed = [node in checks and not checks[node][0] for node in order]
    assert failed == sorted(failed)
