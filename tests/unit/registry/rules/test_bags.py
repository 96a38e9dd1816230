"""What may be recorded of bags, digests and nodes, and what a peer may tell us of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dpn.registry.records import BagRecord
from dpn.registry.rules import Accepted, Adoption, Caller, Decision, Refused, bags, peers
from tests.fixtures.records import DIGEST, OTHER_DIGEST, a_bag, a_digest, a_node, a_transfer, uuid

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
OURSELVES = Caller("north", us="north")
A_PEER = Caller("south", us="north")
NODES = {"north", "south", "west"}
NORTHS = peers.KnownBag(admin_node="north", ingest_node="north")


def create(bag: BagRecord, caller: Caller = OURSELVES, **more: Any) -> Decision[BagRecord]:
    known: dict[str, Any] = {"known_nodes": NODES, "known_bags": set(), "same_version": None}
    return bags.create_bag(bag, caller=caller, **(known | more))


def update(current: BagRecord, proposed: BagRecord, caller: Caller = OURSELVES) -> Decision[BagRecord]:
    known: dict[str, Any] = {"known_nodes": NODES, "known_bags": set(), "same_version": None}
    return bags.update_bag(current, proposed, caller=caller, **known, now=NOW)


def problems(decision: Decision[Any]) -> tuple[str, ...]:
    assert isinstance(decision, Refused), decision
    return decision.messages


def status(decision: Adoption[Any]) -> int:
    assert isinstance(decision, Refused), decision
    return decision.status


def test_the_first_version_names_itself() -> None:
    assert create(a_bag(1)) == Accepted(a_bag(1))


def test_a_later_version_names_the_first() -> None:
    assert create(a_bag(2, first_version_uuid=uuid(1), version=2)) == Accepted(
        a_bag(2, first_version_uuid=uuid(1), version=2)
    )


@pytest.mark.parametrize(
    "bag", [a_bag(1, version=2), a_bag(2, first_version_uuid=uuid(1), version=1)], ids=["own", "other"]
)
def test_version_one_and_the_familys_name_go_together(bag: BagRecord) -> None:
    assert "first version" in problems(create(bag))[0]


def test_a_version_is_taken_once() -> None:
    assert uuid(9) in problems(create(a_bag(2, first_version_uuid=uuid(1), version=2), same_version=uuid(9)))[0]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"uuid": "00000000-0000-1000-a000-000000000001"}, "uuid: not a version 4 UUID"),
        ({"ingest_node": "mars"}, "ingest_node: no such node: mars"),
        ({"admin_node": "mars"}, "admin_node: no such node: mars"),
        ({"replicating_nodes": ("mars", "north")}, "replicating_nodes: no such node: mars"),
        ({"rights": (uuid(7),)}, f"rights: no such bag: {uuid(7)}"),
        ({"interpretive": (uuid(8),)}, f"interpretive: no such bag: {uuid(8)}"),
    ],
)
def test_what_a_bag_refers_to_must_be_there(fields: dict[str, Any], problem: str) -> None:
    assert problem in problems(create(a_bag(1, **fields)))


@pytest.mark.parametrize("field", bags.BAG_IDENTITY)
def test_what_a_bag_is_does_not_change(field: str) -> None:
    other: dict[str, Any] = {
        "uuid": uuid(2),
        "size": 2,
        "first_version_uuid": uuid(2),
        "version": 2,
        "bag_type": "R",
        "ingest_node": "west",
    }
    assert "read-only" in problems(update(a_bag(), a_bag(**{field: other[field]})))[0]


def test_what_is_said_of_a_bag_may_change_and_is_stamped() -> None:
    proposed = a_bag(local_id="new", admin_node="west", member=uuid(77), replicating_nodes=("north", "south"))
    assert update(a_bag(), proposed) == Accepted(proposed.change(updated_at=NOW))


def test_a_change_that_changes_nothing_is_not_stamped() -> None:
    assert update(a_bag(), a_bag(updated_at=NOW, created_at=NOW)) == Accepted(a_bag(), changed=False)


def test_a_replica_is_added_once() -> None:
    once = bags.with_replica(a_bag(), "south", NOW)
    assert once.record.replicating_nodes == ("north", "south")
    assert bags.with_replica(once.record, "south", NOW) == Accepted(once.record, changed=False)


def test_a_digest_is_of_the_bag_that_was_named() -> None:
    accepted = bags.create_digest(a_digest(1), caller=OURSELVES, bag=uuid(1), known_nodes=NODES)
    assert accepted == Accepted(a_digest(1))
    other = bags.create_digest(a_digest(1), caller=OURSELVES, bag=uuid(2), known_nodes=NODES)
    assert uuid(2) in problems(other)[0]


def test_where_a_node_is_reached_does_not_change_over_the_network() -> None:
    moved = a_node(api_root="https://evil.example.org")
    assert "Api root" in problems(bags.update_node(a_node(), moved, caller=OURSELVES, now=NOW))[0]
    renamed = bags.update_node(a_node(), a_node(name="New"), caller=OURSELVES, now=NOW)
    assert renamed == Accepted(a_node(name="New", updated_at=NOW))


def test_peers_write_none_of_these() -> None:
    refusals = [
        create(a_bag(), A_PEER),
        update(a_bag(), a_bag(), A_PEER),
        bags.create_digest(a_digest(), caller=A_PEER, bag=uuid(1), known_nodes=NODES),
        bags.create_node(a_node(), caller=A_PEER),
        bags.update_node(a_node(), a_node(), caller=A_PEER, now=NOW),
    ]
    assert [status(refusal) for refusal in refusals] == [403] * 5


def test_a_peer_tells_of_the_bags_it_administers() -> None:
    assert peers.adopt_bag("north", None, a_bag()) == Accepted(a_bag())
    assert peers.adopt_bag("north", a_bag(), a_bag(local_id="new")) == Accepted(a_bag(local_id="new"))
    assert peers.adopt_bag("north", a_bag(), a_bag()) == Accepted(a_bag(), changed=False)


def test_a_peer_does_not_take_another_nodes_bag_by_saying_it_administers_it() -> None:
    assert status(peers.adopt_bag("west", None, a_bag())) == 403
    assert status(peers.adopt_bag("west", a_bag(), a_bag(admin_node="west"))) == 403


def test_a_bag_passes_to_another_admin_node_when_both_say_so() -> None:
    handed_over = a_bag(admin_node="west")
    for peer in ("north", "west"):
        assert status(peers.adopt_bag(peer, a_bag(), handed_over)) == 403
        assert peers.adopt_bag(peer, a_bag(), handed_over, agreed=True) == Accepted(handed_over)
    assert status(peers.adopt_bag("south", a_bag(), handed_over, agreed=True)) == 403


def test_a_bag_that_became_another_is_a_contradiction() -> None:
    assert status(peers.adopt_bag("north", a_bag(), a_bag(size=7))) == 409


def test_a_digest_comes_from_the_bags_admin_node_and_stays() -> None:
    assert peers.adopt_digest("north", None, a_digest(), bag=NORTHS) == Accepted(a_digest())
    assert status(peers.adopt_digest("west", None, a_digest(node="west"), bag=NORTHS)) == 403
    assert status(peers.adopt_digest("north", None, a_digest(), bag=None)) == 404
    other = a_digest(value=OTHER_DIGEST)
    assert status(peers.adopt_digest("north", a_digest(value=DIGEST), other, bag=NORTHS)) == 409


def test_a_transfer_comes_from_its_owner_after_its_bag() -> None:
    assert peers.adopt_transfer("north", None, a_transfer(), bag=NORTHS) == Accepted(a_transfer())
    assert status(peers.adopt_transfer("west", None, a_transfer(), bag=NORTHS)) == 403
    assert status(peers.adopt_transfer("north", None, a_transfer(), bag=None)) == 404
    stored = a_transfer(fixity_value=DIGEST, store_requested=True, stored=True)
    assert status(peers.adopt_transfer("north", stored, a_transfer(), bag=NORTHS)) == 409


def test_a_peer_speaks_of_itself_but_not_of_where_we_find_it_nor_of_our_agreements() -> None:
    ours = a_node("south", replicate_to=("north",), ssh_pubkey=None)
    theirs = a_node(
        "south", api_root="https://evil.example.org", replicate_to=("west",), ssh_pubkey="ssh-ed25519 AAAA"
    )
    adopted = peers.adopt_node("south", ours, theirs)
    assert adopted == Accepted(ours.change(ssh_pubkey="ssh-ed25519 AAAA"))
    assert status(peers.adopt_node("west", ours, theirs)) == 403
