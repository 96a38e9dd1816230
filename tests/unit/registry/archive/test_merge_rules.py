"""Merging an archive goes in one direction only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dpn.registry.archive.merge_rules import Origin, different, merge
from dpn.registry.records import Record
from dpn.registry.rules import Accepted, Refused
from tests.fixtures.archives import LATER, a_fixity_check, a_member, a_restore, an_ingest
from tests.fixtures.records import DIGEST, LONG_AGO, OTHER_DIGEST, a_bag, a_digest, a_node, a_transfer

OURS = Origin("north", "north")
FROM_SOUTH = Origin("south", "north")


def kept(ours: Record | None, theirs: Record, origin: Origin = OURS) -> tuple[Record, bool]:
    decision = merge(origin, ours, theirs)
    assert isinstance(decision, Accepted), decision
    return decision.record, decision.changed


@pytest.mark.parametrize("origin", [OURS, FROM_SOUTH])
@pytest.mark.parametrize(
    "record", [a_member(), a_bag(), a_digest(), an_ingest(), a_fixity_check(), a_transfer(), a_restore()]
)
def test_what_we_do_not_know_is_taken_and_what_we_know_stays(record: Record, origin: Origin) -> None:
    assert kept(None, record, origin) == (record, True)
    assert kept(record, record, origin) == (record, False)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (a_bag(), a_bag(updated_at=LATER, replicating_nodes=("north", "south"))),
        (a_member(), a_member(updated_at=LATER, email="new@example.edu")),
        (a_transfer(), a_transfer(updated_at=LATER, fixity_value=DIGEST)),
        (a_transfer(fixity_value=DIGEST), a_transfer(updated_at=LATER, fixity_value=DIGEST, stored=True)),
        (a_transfer(), a_transfer(updated_at=LATER, cancelled=True, cancel_reason="reject")),
        (a_restore(), a_restore(updated_at=LATER, accepted=True)),
        (a_restore(accepted=True), a_restore(updated_at=LATER, accepted=True, link="x@y:z")),
        (a_node(created_at=LONG_AGO), a_node(updated_at=LATER, replicate_to=("west",))),
    ],
)
def test_the_newer_state_wins_whichever_of_the_two_is_in_the_file(older: Record, newer: Record) -> None:
    assert kept(older, newer) == (newer, True)
    assert kept(newer, older) == (newer, False)


def test_a_time_goes_not_back_with_an_older_copy_that_says_the_same() -> None:
    ours = a_transfer(updated_at=LATER, fixity_value=DIGEST)
    assert kept(ours, a_transfer(updated_at=LONG_AGO, fixity_value=DIGEST)) == (ours, False)


def test_progress_in_an_older_copy_is_taken_without_taking_the_time_back() -> None:
    ours, theirs = a_transfer(updated_at=LATER), a_transfer(updated_at=LONG_AGO, fixity_value=DIGEST)
    assert kept(ours, theirs) == (a_transfer(updated_at=LATER, fixity_value=DIGEST), True)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (a_bag(), a_bag(size=2, updated_at=LATER)),
        (a_bag(updated_at=LATER), a_bag(size=2)),
        (a_bag(), a_bag(local_id="another")),
        (a_member(), a_member(name="Another")),
        (a_digest(), a_digest(value=OTHER_DIGEST)),
        (an_ingest(), an_ingest(ingested=False)),
        (a_fixity_check(), a_fixity_check(success=False)),
        (a_transfer(), a_transfer(link="another@host:place", updated_at=LATER)),
        (a_transfer(stored=True), a_transfer(cancelled=True, updated_at=LATER)),
        (a_restore(finished=True), a_restore(cancelled=True, updated_at=LATER)),
    ],
)
def test_a_contradiction_is_refused_with_both_values(ours: Record, theirs: Record) -> None:
    decision = merge(OURS, ours, theirs)
    assert isinstance(decision, Refused)
    assert decision.messages
    values = different(ours, theirs)
    assert values
    assert all(mine != other for mine, other in values.values())


def test_a_digest_that_differs_only_in_when_it_was_written_down_is_the_same() -> None:
    assert kept(a_digest(), a_digest(created_at=LATER)) == (a_digest(), False)


# -- nodes --------------------------------------------------------------------------------------------------------


def made_anew(namespace: str, **fields: Any) -> Record:
    """As `dpn db upgrade` makes an entry."""
    now = LATER + timedelta(days=300)
    return a_node(namespace, created_at=now, updated_at=now, api_root="https://new.example.org", **fields)


def test_our_agreements_come_back_from_our_own_backup_but_where_we_are_reached_does_not() -> None:
    before = a_node("north", replicate_to=("south",), restore_from=("west",), updated_at=LATER)
    wanted = before.model_copy(update={"api_root": "https://new.example.org"})
    assert kept(made_anew("north"), before) == (wanted, True)
    assert kept(wanted, before) == (wanted, False)


def test_a_peer_gives_us_no_agreements_and_no_address() -> None:
    theirs = a_node("south", replicate_to=("north",), updated_at=LATER, ssh_pubkey="ssh-ed25519 AAAA")
    record, changed = kept(made_anew("south", replicate_from=("north",)), theirs, FROM_SOUTH)
    expected = {"api_root": "https://new.example.org", "replicate_from": ("north",), "replicate_to": ()}
    assert changed
    assert {name: getattr(record, name) for name in expected} == expected
    assert record.ssh_pubkey == "ssh-ed25519 AAAA"  # type: ignore[attr-defined]
    unknown, _ = kept(None, theirs, FROM_SOUTH)
    assert unknown == theirs.model_copy(update={"replicate_to": ()})


@pytest.mark.parametrize("namespace", ["north", "west"])
def test_a_peer_changes_no_entry_but_its_own(namespace: str) -> None:
    ours = a_node(namespace)
    assert kept(ours, a_node(namespace, name="other", updated_at=LATER), FROM_SOUTH) == (ours, False)


# -- who may change a member --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "told_by", "source"),
    [
        (OURS, None, None),
        (OURS, "west", "west"),
        (FROM_SOUTH, None, "south"),
        (FROM_SOUTH, "west", "west"),
        (FROM_SOUTH, "north", None),
    ],
)
def test_a_member_is_of_who_told_first_and_ours_if_that_was_us(
    origin: Origin, told_by: str | None, source: str | None
) -> None:
    assert origin.source_of_member(told_by) == source
