"""Fixity checks and Ingest records: what may be said, and when a bag's copies call for a word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpn.registry.records import IngestRecord
from dpn.registry.rules import Accepted, Caller, Decision, Refused, members, statements
from tests.fixtures.archives import a_fixity_check, a_member, an_ingest
from tests.fixtures.records import LONG_AGO, a_bag, uuid

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
OURSELVES = Caller("north", us="north")
A_PEER = Caller("south", us="north")
NODES = {"north", "south", "west"}
VERSION_1_ID = "00000000-0000-1000-a000-000000000001"


def problems(decision: Decision[Any]) -> tuple[str, ...]:
    assert isinstance(decision, Refused), decision
    return decision.messages


def check(caller: Caller = OURSELVES, *, bag_known: bool = True, **fields: Any) -> Decision[Any]:
    proposed = a_fixity_check(**fields)
    return statements.create_fixity_check(proposed, caller=caller, bag_known=bag_known, known_nodes=NODES)


def ingest(caller: Caller = OURSELVES, *, bag_known: bool = True, **fields: Any) -> Decision[Any]:
    proposed = an_ingest(**fields)
    return statements.create_ingest(proposed, caller=caller, bag_known=bag_known, known_nodes=NODES)


def test_a_check_is_recorded_at_the_moment_it_was_made_or_later() -> None:
    assert check() == Accepted(a_fixity_check())
    later = LONG_AGO + timedelta(seconds=1)
    assert isinstance(check(created_at=later), Accepted)
    assert "fixity_at" in problems(check(fixity_at=later))[0]


@pytest.mark.parametrize("make", [check, ingest])
def test_what_is_said_of_bags_is_said_by_the_node_itself_of_a_bag_it_knows(make: Any) -> None:
    assert problems(make(A_PEER)) == ("Only the node itself may do this.",)
    assert problems(make(bag_known=False)) == (f"bag: no such bag: {uuid(1)}",)


def test_unknown_nodes_and_other_ids_are_refused() -> None:
    assert problems(check(node="mars")) == ("node: no such node: mars",)
    assert problems(ingest(replicating_nodes=("mars",))) == ("replicating_nodes: no such node: mars",)
    assert problems(check(fixity_check_id=VERSION_1_ID)) == ("fixity_check_id: not a version 4 UUID",)
    assert problems(ingest(ingest_id=VERSION_1_ID)) == ("ingest_id: not a version 4 UUID",)


def due(nodes: tuple[str, ...], latest: IngestRecord | None, now: datetime = NOW) -> IngestRecord | None:
    bag = a_bag(replicating_nodes=nodes)
    return statements.ingest_due(bag, latest, copies=3, ingest_id=uuid(7), now=now)


ALL = ("north", "south", "west")


def test_reaching_the_number_of_copies_and_losing_it_are_said_with_the_nodes_after_it() -> None:
    assert due(ALL, None) == an_ingest(ingest_id=uuid(7), replicating_nodes=ALL, created_at=NOW)
    lost = due(("north",), an_ingest())
    assert lost is not None
    assert (lost.ingested, lost.replicating_nodes, lost.created_at) == (False, ("north",), NOW)


@pytest.mark.parametrize(
    ("nodes", "latest"),
    [
        (("north",), None),  # never reached: nothing is lost
        (ALL, an_ingest()),
        ((*ALL, "east"), an_ingest()),
        (("south",), an_ingest(ingested=False)),
    ],
)
def test_nothing_is_said_twice(nodes: tuple[str, ...], latest: IngestRecord | None) -> None:
    assert due(nodes, latest) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.sets(st.sampled_from([*ALL, "east"])), st.integers(-5, 5))))
def test_the_newest_ingest_record_is_always_the_bags_state_whatever_the_clock_does(
    steps: list[tuple[set[str], int]],
) -> None:
    said: list[IngestRecord] = []
    for nodes, seconds in steps:
        latest = max(said, key=lambda record: record.created_at, default=None)
        if new := due(tuple(sorted(nodes)), latest, NOW + timedelta(seconds=seconds)):
            said.append(new)
        newest = max(said, key=lambda record: record.created_at, default=None)
        assert (len(nodes) >= 3) == (newest is not None and newest.ingested)
    assert [record.ingested for record in said] == [n % 2 == 0 for n in range(len(said))]
    assert len({record.created_at for record in said}) == len(said)


def create_member(caller: Caller = OURSELVES, same_name: str | None = None, **fields: Any) -> Decision[Any]:
    return members.create(a_member(**fields), caller=caller, same_name=same_name)


def test_a_name_is_taken_once_and_only_by_the_node_itself() -> None:
    assert create_member() == Accepted(a_member())
    assert problems(create_member(A_PEER)) == ("Only the node itself may do this.",)
    assert problems(create_member(same_name=uuid(5))) == (f"name: {uuid(5)} is a member of this name",)
    assert problems(create_member(member_id=VERSION_1_ID)) == ("member_id: not a version 4 UUID",)


def update_member(caller: Caller = OURSELVES, same_name: str | None = None, **fields: Any) -> Decision[Any]:
    return members.update(a_member(), a_member(**fields), caller=caller, same_name=same_name, now=NOW)


def test_name_and_email_of_a_member_change_and_its_id_does_not() -> None:
    renamed = update_member(name="New", email="new@example.edu")
    assert renamed == Accepted(a_member(name="New", email="new@example.edu", updated_at=NOW))
    assert problems(update_member(member_id=uuid(9))) == ("Member id is marked read-only but was changed.",)
    assert problems(update_member(name="New", same_name=uuid(5))) == (f"name: {uuid(5)} is a member of this name",)
    assert problems(update_member(A_PEER)) == ("Only the node itself may do this.",)


def test_a_member_whose_name_a_peer_gave_to_another_too_can_still_be_changed() -> None:
    assert isinstance(update_member(email="new@example.edu", same_name=uuid(5)), Accepted)
