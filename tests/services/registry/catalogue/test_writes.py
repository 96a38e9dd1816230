"""What the node itself writes, on both databases: members, fixity checks, restores; and a bag's Ingest records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dpn.database import Sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    MEMBERS,
    RESTORES,
    TRANSFERS,
    add_bag,
    add_fixity_check,
    add_ingest,
    add_member,
    add_restore,
    find,
    put_bag,
    put_member,
    put_restore,
    put_transfer,
    state_of,
)
from dpn.registry.catalogue.rows import save
from dpn.registry.records import BagRecord, IngestRecord, ReplicationRecord
from dpn.registry.rules import Accepted, Caller, Refused
from tests.fixtures.archives import a_fixity_check, a_member, a_restore, an_ingest
from tests.fixtures.catalogue import NORTH, NOW, SOUTH, adopt, at_once, catalogue_of_north, everything
from tests.fixtures.records import DIGEST, LONG_AGO, a_bag, a_digest, a_transfer, uuid

THREE = ("north", "south", "west")


@pytest.fixture
def sessions(database_url: str, tmp_path: Path) -> Iterator[Sessions]:
    with catalogue_of_north(database_url, tmp_path) as sessions:
        yield sessions


def write(sessions: Sessions, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    with sessions.begin() as session:
        return function(session, *arguments, **{"caller": NORTH} | more)


def status(decision: Any) -> int:
    assert isinstance(decision, Refused), decision
    return int(decision.status)


class TestMembers:
    def test_a_member_is_recorded_once_under_its_id_and_its_name(self, sessions: Sessions) -> None:
        assert write(sessions, add_member, a_member(1)) == Accepted(a_member(1))
        assert status(write(sessions, add_member, a_member(1))) == 409
        assert status(write(sessions, add_member, a_member(2, name=a_member(1).name))) == 400
        assert status(write(sessions, add_member, a_member(3), caller=SOUTH)) == 403
        assert everything(sessions)["member"] == [a_member(1)]

    def test_of_two_that_take_one_name_at_once_one_gets_it(self, sessions: Sessions) -> None:
        for n in range(1, 11):
            proposed = [a_member(2 * n, name=f"Name {n}"), a_member(2 * n + 1, name=f"Name {n}")]
            at_once(*[partial(write, sessions, add_member, one) for one in proposed])
        names = [member.name for member in everything(sessions)["member"]]  # type: ignore[attr-defined]
        assert sorted(names) == sorted(f"Name {n}" for n in range(1, 11))

    def test_a_member_changes_by_put_and_is_found_by_its_id_alone(self, sessions: Sessions) -> None:
        write(sessions, add_member, a_member(1))
        renamed = a_member(1, name="New")
        put = partial(write, sessions, put_member, now=NOW)
        assert put(uuid(0x5001), renamed) == Accepted(renamed.change(updated_at=NOW))
        assert put(uuid(0x5001), renamed) == Accepted(renamed.change(updated_at=NOW), changed=False)
        assert status(put(uuid(0x5002), a_member(2))) == 404

    def test_a_peers_member_that_we_change_is_ours_from_then_on(self, sessions: Sessions) -> None:
        adopt(sessions, "south", a_member(1))
        assert adopt(sessions, "south", a_member(1, email="south@example.edu")).updated == 1
        write(sessions, put_member, uuid(0x5001), a_member(1, email="ours@example.edu"), now=NOW)
        assert adopt(sessions, "south", a_member(1, email="south@example.edu")).foreign == 1
        with reading(sessions) as session:
            kept = find(session, MEMBERS, uuid(0x5001))
        assert kept is not None
        assert kept.email == "ours@example.edu"

    def test_what_is_not_changed_leaves_the_lists_as_they_were(self, sessions: Sessions) -> None:
        write(sessions, add_member, a_member(1))
        with reading(sessions) as session:
            before = state_of(session, MEMBERS)
        write(sessions, put_member, uuid(0x5001), a_member(1), now=NOW)
        with reading(sessions) as session:
            assert state_of(session, MEMBERS) == before


class TestStatements:
    def test_each_is_recorded_once_of_a_bag_that_is_known(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1), copies=3)
        for function, make in ((add_fixity_check, a_fixity_check), (add_ingest, an_ingest)):
            record = make(1, 1)
            assert write(sessions, function, record) == Accepted(record)
            assert status(write(sessions, function, record)) == 409
            assert status(write(sessions, function, make(2, 99))) == 400
            assert status(write(sessions, function, make(3, 1), caller=SOUTH)) == 403
        later = LONG_AGO + timedelta(seconds=1)
        assert status(write(sessions, add_fixity_check, a_fixity_check(4, 1, fixity_at=later))) == 400


class TestRestores:
    def test_a_restore_goes_its_way(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1), copies=3)
        assert write(sessions, add_restore, a_restore(1)) == Accepted(a_restore(1))
        assert status(write(sessions, add_restore, a_restore(1))) == 409
        assert status(write(sessions, add_restore, a_restore(2, 99))) == 400
        put = partial(write, sessions, put_restore, uuid(0x4001), now=NOW)
        taken = put(a_restore(1, accepted=True), caller=SOUTH).record
        staged = put(taken.change(link="there"), caller=SOUTH).record
        assert status(put(staged.change(finished=True), caller=SOUTH)) == 400
        assert status(put(staged.change(cancelled=True), caller=Caller("west", us="north"))) == 403
        assert put(staged.change(finished=True)).record.finished
        assert status(write(sessions, put_restore, uuid(0x4009), a_restore(9), now=NOW)) == 404

    def test_finished_and_cancelled_at_once_end_as_one_of_them(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1), copies=3)
        for n in range(1, 9):
            staged = a_restore(n, accepted=True, link="there")
            with sessions.begin() as session:
                save(session, RESTORES, [staged])
            put = partial(write, sessions, put_restore, staged.restore_id, now=NOW)
            at_once(
                partial(put, staged.change(finished=True)),
                partial(put, staged.change(cancelled=True), caller=SOUTH),
            )
        assert all(r.finished != r.cancelled for r in everything(sessions)["restore"])  # type: ignore[attr-defined]


class TestFamilies:
    def test_a_peers_bag_takes_no_place_in_a_family_of_ours(self, sessions: Sessions) -> None:
        """Heard before our first version was entered: after it, it would be set aside."""
        squatter = a_bag(7, first_version_uuid=uuid(1), version=2, admin_node="south", ingest_node="south")
        assert adopt(sessions, "south", squatter).added == 1
        write(sessions, add_bag, a_bag(1), copies=3)
        second = a_bag(2, first_version_uuid=uuid(1), version=2)
        assert write(sessions, add_bag, second, copies=3) == Accepted(second)
        assert status(write(sessions, add_bag, a_bag(3, first_version_uuid=uuid(1), version=2), copies=3)) == 400

    def test_a_bag_is_not_moved_into_a_place_that_is_taken(self, sessions: Sessions) -> None:
        theirs = a_bag(7, first_version_uuid=uuid(1), version=2, admin_node="south")
        adopt(sessions, "south", theirs)
        write(sessions, add_bag, a_bag(1), copies=3)
        write(sessions, add_bag, a_bag(2, first_version_uuid=uuid(1), version=2), copies=3)
        ours = theirs.change(admin_node="north")
        assert status(write(sessions, put_bag, uuid(7), ours, now=NOW, copies=3)) == 400


def stored(sessions: Sessions, transfer: ReplicationRecord, now: datetime = NOW) -> Any:
    caller = Caller(transfer.to_node, us=transfer.from_node)
    changed = transfer.change(stored=True)
    return write(sessions, put_transfer, transfer.key[0], changed, caller=caller, now=now, copies=3)


def with_nodes(sessions: Sessions, bag: BagRecord, nodes: tuple[str, ...], now: datetime = NOW) -> Any:
    return write(sessions, put_bag, bag.uuid, bag.change(replicating_nodes=nodes), now=now, copies=3)


def ingests(sessions: Sessions, bag: int = 1) -> list[IngestRecord]:
    """The bag's Ingest records, in the order of their times."""
    records = [record for record in everything(sessions)["ingest"] if isinstance(record, IngestRecord)]
    return sorted((record for record in records if record.bag == uuid(bag)), key=lambda record: record.created_at)


class TestIngestRecords:
    @pytest.fixture
    def transfers(self, sessions: Sessions) -> list[ReplicationRecord]:
        """Of bag 1, to south and west, both confirmed."""
        transfers = [a_transfer(1), a_transfer(2, to_node="west")]
        confirmed = [transfer.change(fixity_value=DIGEST, store_requested=True) for transfer in transfers]
        adopt(sessions, "north", a_bag(1), a_digest(1), *confirmed)
        return confirmed

    def test_the_copy_that_completes_a_bag_is_told_of_once(
        self, sessions: Sessions, transfers: list[ReplicationRecord]
    ) -> None:
        stored(sessions, transfers[0])
        assert ingests(sessions) == []
        stored(sessions, transfers[1])
        stored(sessions, transfers[1])
        [told] = ingests(sessions)
        assert (told.ingested, told.replicating_nodes, told.created_at) == (True, THREE, NOW)

    def test_a_copy_that_is_lost_and_one_that_comes_back_are_told_of(
        self, sessions: Sessions, transfers: list[ReplicationRecord]
    ) -> None:
        for transfer in transfers:
            stored(sessions, transfer)
        for nodes in (("north", "south"), ("south",), THREE, (*THREE, "south"), ("north",)):
            with_nodes(sessions, a_bag(1), nodes)
        told = ingests(sessions)
        assert [record.ingested for record in told] == [True, False, True, False]
        assert [len(record.replicating_nodes) for record in told] == [3, 2, 3, 1]
        assert len({record.created_at for record in told}) == 4, "which is the newest is not plain"

    def test_a_bag_that_has_its_copies_from_the_start_is_told_of(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1), copies=1)
        write(sessions, add_bag, a_bag(2), copies=2)
        assert [record.replicating_nodes for record in ingests(sessions, 1)] == [("north",)]
        assert ingests(sessions, 2) == []

    def test_another_change_of_a_bag_says_nothing_of_its_copies(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1, replicating_nodes=THREE), copies=3)
        changed = a_bag(1, replicating_nodes=THREE, local_id="new")
        write(sessions, put_bag, uuid(1), changed, now=NOW, copies=3)
        write(sessions, put_bag, uuid(1), changed, now=NOW, copies=3)
        assert len(ingests(sessions)) == 1

    def test_of_the_bags_of_others_we_say_nothing(self, sessions: Sessions) -> None:
        souths = a_bag(1, admin_node="south", ingest_node="south", replicating_nodes=("south", "west"))
        adopt(sessions, "south", souths)
        write(sessions, put_bag, uuid(1), souths.change(replicating_nodes=THREE), now=NOW, copies=3)
        write(sessions, add_bag, a_bag(2, admin_node="south", replicating_nodes=THREE), copies=3)
        assert everything(sessions)["ingest"] == []

    def test_a_copy_that_we_give_of_anothers_bag_is_its_admin_nodes_to_count(self, sessions: Sessions) -> None:
        souths = a_bag(1, admin_node="south", ingest_node="south", replicating_nodes=("north", "south"))
        ours = a_transfer(1, to_node="west", fixity_value=DIGEST, store_requested=True)
        adopt(sessions, "south", souths)
        with sessions.begin() as session:
            save(session, TRANSFERS, [ours])
        assert stored(sessions, ours).record.stored
        with reading(sessions) as session:
            assert find(session, BAGS, uuid(1)) == souths
        assert everything(sessions)["ingest"] == []

    def test_a_bag_that_becomes_ours_goes_on_from_what_its_last_admin_node_said(self, sessions: Sessions) -> None:
        souths = a_bag(1, admin_node="south", ingest_node="south", replicating_nodes=THREE)
        adopt(sessions, "south", souths, an_ingest(1))
        ours = souths.change(admin_node="north")
        write(sessions, put_bag, uuid(1), ours, now=NOW, copies=3)
        assert len(ingests(sessions)) == 1
        with_nodes(sessions, ours, ("north",))
        assert [record.ingested for record in ingests(sessions)] == [True, False]

    def test_a_clock_that_stepped_back_does_not_hide_the_newest(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1), copies=3)
        with_nodes(sessions, a_bag(1), THREE, NOW)
        with_nodes(sessions, a_bag(1), ("north",), NOW - timedelta(hours=1))
        assert [record.ingested for record in ingests(sessions)] == [True, False]

    def test_two_copies_that_complete_a_bag_at_once_are_told_of_once(self, sessions: Sessions) -> None:
        for n in range(1, 13):
            transfers = [a_transfer(2 * n, n), a_transfer(2 * n + 1, n, to_node="west")]
            confirmed = [one.change(fixity_value=DIGEST, store_requested=True) for one in transfers]
            adopt(sessions, "north", a_bag(n), *confirmed)
            at_once(*[partial(stored, sessions, one) for one in confirmed])
            told = ingests(sessions, n)
            assert [(record.ingested, record.replicating_nodes) for record in told] == [(True, THREE)]

    def test_many_that_change_a_bags_copies_at_once_leave_one_record_a_change(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1), copies=3)
        for _ in range(4):
            at_once(
                *[partial(with_nodes, sessions, a_bag(1), THREE)] * 3,
                *[partial(with_nodes, sessions, a_bag(1), ("north",))] * 3,
            )
            with reading(sessions) as session:
                bag = find(session, BAGS, uuid(1))
            assert bag is not None
            told = [record.ingested for record in ingests(sessions)]
            assert told == [n % 2 == 0 for n in range(len(told))]
            assert (len(bag.replicating_nodes) == 3) == (bool(told) and told[-1])

    def test_ids_come_from_outside(self, sessions: Sessions) -> None:
        write(sessions, add_bag, a_bag(1, replicating_nodes=THREE), copies=3, new_id=lambda: uuid(0xABC))
        assert [record.ingest_id for record in ingests(sessions)] == [uuid(0xABC)]
