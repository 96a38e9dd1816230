"""What peers tell of all kinds: honest words end alike in any order, hostile ones change nothing of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from dpn.database import Sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    KINDS,
    MEMBERS,
    RESTORES,
    TRANSFERS,
    Applied,
    RecordInUse,
    disown,
    find_many,
    set_aside_of,
    take_back,
)
from dpn.registry.catalogue.members import sources_of
from dpn.registry.catalogue.rows import save
from dpn.registry.catalogue.totals import recount
from dpn.registry.records import (
    MAX_VERSION,
    BagRecord,
    DigestRecord,
    FixityCheckRecord,
    IngestRecord,
    MemberRecord,
    NodeRecord,
    Record,
    ReplicationRecord,
    RestoreRecord,
)
from models.preservation import StoredCopy
from models.registry import SyncMark
from models.work import Status, Task, WorkItem
from tests.fixtures.archives import a_fixity_check, a_member, a_restore, an_ingest
from tests.fixtures.catalogue import adopt, at_once, catalogue_of_north, empty, everything, hear, try_again
from tests.fixtures.records import DIGEST, LONG_AGO, OTHER_DIGEST, a_bag, a_digest, a_node, a_transfer, uuid

PEERS = ("south", "west", "east")
SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)


@pytest.fixture
def sessions(database_url: str, tmp_path: Path) -> Iterator[Sessions]:
    with catalogue_of_north(database_url, tmp_path, PEERS) as sessions:
        yield sessions


@pytest.fixture(scope="module")
def used_again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    """One database for all examples of a property, each of which empties it first."""
    folder = tmp_path_factory.mktemp("north")
    with catalogue_of_north(f"sqlite:///{folder / 'north.db'}", folder, PEERS) as sessions:
        yield sessions


def of(peer: str, number: int, **fields: Any) -> BagRecord:
    return a_bag(number, **{"admin_node": peer, "ingest_node": peer, "replicating_nodes": (peer,)} | fields)


def refusals(applied: Applied) -> list[int]:
    return [int(refused.status) for refused in applied.refused]


class TestMembers:
    def test_who_told_first_tells_on_and_the_others_pass_on(self, sessions: Sessions) -> None:
        assert adopt(sessions, "south", a_member(1)).added == 1
        assert adopt(sessions, "west", a_member(1)).unchanged == 1
        stale = a_member(1, email="west@example.edu", updated_at=LONG_AGO + timedelta(seconds=1))
        assert adopt(sessions, "west", stale) == Applied(foreign=1)
        assert adopt(sessions, "south", a_member(1, email="south@example.edu")).updated == 1
        assert everything(sessions)["member"] == [a_member(1, email="south@example.edu")]

    def test_two_peers_that_tell_of_one_member_at_once_are_one_source(self, sessions: Sessions) -> None:
        for n in range(0, 40, 10):
            batches = {peer: [a_member(n + i, email=f"{peer}@example.edu") for i in range(10)] for peer in PEERS}
            told = at_once(*[partial(adopt, sessions, peer, *batches[peer]) for peer in PEERS])
            assert sum(applied.added for applied in told) == 10
            assert [refusals(applied) for applied in told].count([409] * 10) == 2
        with reading(sessions) as session:
            members = everything(sessions)["member"]
            sources = sources_of(session, [member.key[0] for member in members])
        for member in members:
            assert isinstance(member, MemberRecord)
            assert member.email == f"{sources[member.member_id]}@example.edu"

    def test_two_members_of_one_name_are_two(self, sessions: Sessions) -> None:
        assert adopt(sessions, "south", a_member(1, name="A"), a_member(2, name="A")).added == 2


class TestBags:
    def test_two_peers_that_claim_one_bag_at_once_leave_it_to_the_first(self, sessions: Sessions) -> None:
        for n in range(1, 9):
            told = at_once(*[partial(adopt, sessions, peer, of(peer, n)) for peer in PEERS])
            assert sum(applied.added for applied in told) == 1
            assert [status for applied in told for status in refusals(applied)] == [409, 409]

    def test_a_bag_passes_to_another_admin_node_in_whichever_order_both_say_so(self, sessions: Sessions) -> None:
        for order in (("south", "west"), ("west", "south")):
            empty(sessions)
            hear(sessions, "south", of("south", 1))
            passed_on = of("south", 1, admin_node="west")
            first, second = order
            assert refusals(hear(sessions, first, passed_on)) == [403]
            assert everything(sessions)["bag"] == [of("south", 1)], "one of them decided alone"
            hear(sessions, second, passed_on)
            try_again(sessions, PEERS)
            assert everything(sessions)["bag"] == [passed_on]
            with reading(sessions) as session:
                assert set_aside_of(session) == []

    def test_what_an_heir_says_of_the_bag_waits_until_it_is_its_own(self, sessions: Sessions) -> None:
        hear(sessions, "south", of("south", 1))
        passed_on = of("south", 1, admin_node="west")
        hear(sessions, "west", passed_on)
        assert refusals(hear(sessions, "west", an_ingest(1), a_digest(1, node="west"))) == [403, 403]
        hear(sessions, "south", passed_on)
        try_again(sessions, PEERS)
        assert everything(sessions)["ingest"] == [an_ingest(1)]

    def test_a_bag_that_breaks_the_rule_of_versions_is_refused(self, sessions: Sessions) -> None:
        bad = [of("south", 1, version=2), of("south", 2, first_version_uuid=uuid(1))]
        assert refusals(adopt(sessions, "south", *bad)) == [400, 400]

    def test_each_peer_has_its_own_place_in_a_family(self, sessions: Sessions) -> None:
        for n, peer in enumerate(PEERS, 2):
            assert adopt(sessions, peer, of(peer, n, first_version_uuid=uuid(1), version=2)).added == 1

    def test_no_peer_adds_a_version_to_anothers_family(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            save(session, BAGS, [of("north", 1)])
        adopt(sessions, "south", of("south", 2))
        for first in (1, 2):
            told = adopt(sessions, "west", of("west", 7, first_version_uuid=uuid(first), version=2))
            assert refusals(told) == [403]
        assert adopt(sessions, "south", of("south", 3, first_version_uuid=uuid(2), version=2)).added == 1

    def test_a_version_that_no_bag_reaches_is_no_record(self) -> None:
        with pytest.raises(ValueError, match="version"):
            of("south", 2, first_version_uuid=uuid(1), version=MAX_VERSION + 1)


class TestClaims:
    """Two nodes say that one record is theirs: neither takes it from the other, until somebody decides."""

    def test_a_bag_is_the_other_nodes_once_it_is_disowned(self, sessions: Sessions) -> None:
        """With all that rested on it: nothing that anybody said of the false one is left."""
        false, true = of("south", 1, size=1), of("west", 1, size=2)
        hear(sessions, "south", false, a_digest(1, node="south"), an_ingest(1))
        hear(sessions, "south", a_transfer(1, from_node="south", to_node="north"))
        hear(sessions, "east", a_restore(1, from_node="north", to_node="east"))
        refused = hear(sessions, "west", true).refused[0]
        assert (refused.status, refused.rival) == (409, "south")
        assert f"`dpn registry disown south bag {uuid(1)}`" in refused.messages[-1]
        with sessions.begin() as session:
            session.add(SyncMark(peer="east", record_type="restore"))
            session.add(SyncMark(peer="east", record_type="bag D"))
            gone = disown(session, "north", "south", BAGS, uuid(1), reason="west's", now=LONG_AGO)
        assert gone == {"bag": 1, "digest": 1, "ingest": 1, "replicate": 1, "restore": 1}
        with sessions.begin() as session:
            assert list(session.scalars(select(SyncMark.record_type))) == ["bag D"], "others' words are read anew"
            assert set(recount(session).values()) == {0}
        try_again(sessions, PEERS)
        assert everything(sessions)["bag"] == [true]
        assert hear(sessions, "south", false).refused[0].messages == ("not south's, as was decided here: west's",)
        assert hear(sessions, "east", a_restore(1, from_node="north", to_node="east")).added == 1

    def test_who_has_it_keeps_it_when_the_other_is_disowned(self, sessions: Sessions) -> None:
        hear(sessions, "south", of("south", 1))
        hear(sessions, "west", of("west", 1))
        with sessions.begin() as session:
            assert disown(session, "north", "west", BAGS, uuid(1), reason="south's", now=LONG_AGO) == {}
        try_again(sessions, PEERS)
        assert everything(sessions)["bag"] == [of("south", 1)]

    def test_a_decision_that_is_withdrawn_counts_no_more(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            disown(session, "north", "south", BAGS, uuid(1), reason="a mistake", now=LONG_AGO)
        assert refusals(hear(sessions, "south", of("south", 1))) == [403]
        with sessions.begin() as session:
            assert [take_back(session, "south", BAGS, uuid(1)) for _ in range(2)] == [True, False]
        try_again(sessions, PEERS)
        assert everything(sessions)["bag"] == [of("south", 1)]

    def test_a_transfer_is_the_other_nodes_and_gets_an_item_of_its_own(self, sessions: Sessions) -> None:
        hear(sessions, "south", of("south", 1), a_transfer(1, from_node="south", to_node="north"))
        hear(sessions, "west", of("west", 2))
        true = a_transfer(1, bag=2, from_node="west", to_node="north")
        assert hear(sessions, "west", true).refused[0].rival == "south"
        with sessions.begin() as session:
            item = WorkItem(
                task=Task.REPLICATION, identifier=true.replication_id, stage="copy", status=Status.PENDING,
                manifest={}, run_after=LONG_AGO, created_at=LONG_AGO, updated_at=LONG_AGO,
            )  # fmt: skip
            session.add(item)
            session.flush()
            with pytest.raises(RecordInUse, match=f"dpn item cancel {item.id}"):
                disown(session, "north", "south", TRANSFERS, true.replication_id, reason="-", now=LONG_AGO)
            item.status = Status.CANCELLED
            session.flush()
            disown(session, "north", "south", TRANSFERS, true.replication_id, reason="-", now=LONG_AGO)
            session.expire_all()
            assert item.identifier == f"{true.replication_id} disowned {item.id}"
        try_again(sessions, PEERS)
        assert everything(sessions)["replicate"] == [true]

    def test_a_member_is_that_of_the_next_to_show_it(self, sessions: Sessions) -> None:
        false, true = a_member(1, email="south@example.edu"), a_member(1, email="west@example.edu")
        hear(sessions, "south", false)
        assert (
            f"`dpn registry disown south member {true.member_id}`"
            in hear(sessions, "west", true).refused[0].messages[0]
        )
        with sessions.begin() as session:
            session.add(SyncMark(peer="west", record_type="member"))
            disown(session, "north", "south", MEMBERS, true.member_id, reason="west's", now=LONG_AGO)
            assert session.scalars(select(SyncMark)).all() == []
        assert everything(sessions)["member"] == [false], "until then it stays known"
        assert refusals(hear(sessions, "south", false)) == [403]
        hear(sessions, "west", true)
        assert everything(sessions)["member"] == [true]
        assert hear(sessions, "west", a_member(1, email="w@example.edu")).updated == 1

    def test_nothing_goes_that_ours_rests_on(self, sessions: Sessions) -> None:
        hear(sessions, "south", of("south", 1), of("south", 2))
        with sessions.begin() as session:
            save(session, RESTORES, [a_restore(1, bag=1, from_node="south", to_node="north")])
            copy = {"store": "s", "key": "k", "url": "u", "size": 1, "sha256": "0", "tag_manifest_sha256": "0"}
            session.add(StoredCopy(bag=uuid(2), **copy, receipt={}, stored_at=LONG_AGO, due_at=LONG_AGO))
        for number, why in ((1, "is ours"), (2, "we keep a copy")):
            with sessions.begin() as session, pytest.raises(RecordInUse, match=why):
                disown(session, "north", "south", BAGS, uuid(number), reason="-", now=LONG_AGO)
        assert len(everything(sessions)["bag"]) == 2


class TestDigests:
    def test_a_digest_is_the_admin_nodes_or_the_ingest_nodes_word(self, sessions: Sessions) -> None:
        adopt(sessions, "south", *(of("south", n, ingest_node="west") for n in (1, 2, 3)))
        assert adopt(sessions, "south", a_digest(1, node="east")).added == 1
        assert adopt(sessions, "west", a_digest(2, node="west")).added == 1
        assert refusals(adopt(sessions, "east", a_digest(3, node="east"))) == [403]
        assert adopt(sessions, "east", a_digest(3, node="south")) == Applied(foreign=1)
        assert refusals(adopt(sessions, "south", a_digest(9, node="south"))) == [404]

    def test_what_the_admin_node_computed_comes_first_in_any_order(self, sessions: Sessions) -> None:
        words = [("south", a_digest(1, node="south")), ("west", a_digest(1, node="west", value=OTHER_DIGEST))]
        for order in (words, words[::-1]):
            empty(sessions)
            adopt(sessions, "south", of("south", 1, ingest_node="west"))
            for peer, digest in order:
                assert adopt(sessions, peer, digest).refused == ()
            assert everything(sessions)["digest"] == [words[0][1]]

    def test_a_digest_does_not_change(self, sessions: Sessions) -> None:
        adopt(sessions, "south", of("south", 1), a_digest(1, node="south"))
        assert refusals(adopt(sessions, "south", a_digest(1, node="south", value=OTHER_DIGEST))) == [409]


class TestTransfers:
    def test_who_neither_administers_a_bag_nor_holds_it_offers_no_copy(self, sessions: Sessions) -> None:
        adopt(sessions, "south", of("south", 1, replicating_nodes=("south", "west")))
        assert adopt(sessions, "south", a_transfer(1, from_node="south", to_node="north")).added == 1
        assert adopt(sessions, "west", a_transfer(2, from_node="west", to_node="north")).added == 1
        assert refusals(adopt(sessions, "east", a_transfer(3, from_node="east", to_node="north"))) == [403]

    def test_a_transfer_to_oneself_is_refused(self, sessions: Sessions) -> None:
        adopt(sessions, "south", of("south", 1))
        assert refusals(adopt(sessions, "south", a_transfer(1, from_node="south"))) == [400]
        assert refusals(adopt(sessions, "south", a_restore(1, from_node="south", to_node="south"))) == [400]

    def test_a_restore_is_told_by_who_asks_and_goes_forward_only(self, sessions: Sessions) -> None:
        asked = a_restore(1, from_node="north", to_node="south")
        assert refusals(adopt(sessions, "south", asked)) == [404]
        adopt(sessions, "west", of("west", 1))
        assert adopt(sessions, "south", asked).added == 1
        assert refusals(adopt(sessions, "west", asked)) == [403]
        staged = asked.change(accepted=True, link="there", updated_at=LONG_AGO + timedelta(days=1))
        assert adopt(sessions, "south", staged).updated == 1
        assert adopt(sessions, "south", asked).unchanged == 1, "a late read took something back"
        newer = staged.change(link="elsewhere", updated_at=LONG_AGO + timedelta(days=2))
        assert refusals(adopt(sessions, "south", newer)) == [409]
        assert everything(sessions)["restore"] == [staged]


class TestStatements:
    def test_a_check_is_told_by_who_made_it_and_stays(self, sessions: Sessions) -> None:
        check = a_fixity_check(1, node="south")
        assert refusals(adopt(sessions, "south", check)) == [404]
        adopt(sessions, "west", of("west", 1))
        assert adopt(sessions, "south", check).added == 1
        assert refusals(adopt(sessions, "west", check, a_fixity_check(2, node="south"))) == [403, 403]
        assert refusals(adopt(sessions, "south", check.change(success=False))) == [409]
        early = a_fixity_check(3, node="south", fixity_at=LONG_AGO + timedelta(seconds=1))
        assert refusals(adopt(sessions, "south", early)) == [400]

    def test_an_ingest_record_is_told_by_the_bags_admin_node_and_stays(self, sessions: Sessions) -> None:
        assert refusals(adopt(sessions, "south", an_ingest(1))) == [404]
        adopt(sessions, "south", of("south", 1))
        assert adopt(sessions, "west", an_ingest(1)) == Applied(foreign=1)
        assert adopt(sessions, "south", an_ingest(1)).added == 1
        assert refusals(adopt(sessions, "south", an_ingest(1, ingested=False))) == [409]


@dataclass(frozen=True)
class Word:
    """A record as a peer tells it."""

    peer: str
    record: Record


def stages_of(transfer: ReplicationRecord, stages: int) -> list[ReplicationRecord]:
    """The first so many states of a transfer, each a day after the one before."""
    steps = ({}, {"fixity_value": DIGEST}, {"store_requested": True}, {"stored": True})
    states = [transfer]
    for day, step in enumerate(steps[1:stages], 1):
        states.append(states[-1].change(**step, updated_at=LONG_AGO + timedelta(days=day)))
    return states


@st.composite
def honest_words(draw: st.DrawFn) -> list[Word]:
    """What three honest peers tell of their own, and what they pass on, each record's states in their order."""
    words: list[Word] = []
    bags: list[BagRecord] = []
    for n in range(1, draw(st.integers(1, 5)) + 1):
        admin, ingest = draw(st.sampled_from(PEERS)), draw(st.sampled_from(PEERS))
        held = draw(st.sets(st.sampled_from(["north", *PEERS]))) | {admin}
        bag = a_bag(n, admin_node=admin, ingest_node=ingest, replicating_nodes=tuple(held))
        bags.append(bag)
        words.append(Word(admin, bag))
        if draw(st.booleans()):
            words.append(Word(admin, bag.change(local_id="new", updated_at=LONG_AGO + timedelta(days=1))))
        words += [Word(peer, a_digest(n, node=peer)) for peer in {admin, ingest}]
    for n, bag in enumerate(bags, 1):
        for m in range(draw(st.integers(0, 3))):
            number = 10 * n + m
            giver = draw(st.sampled_from(sorted({*bag.replicating_nodes} - {"north"})))
            taker = draw(st.sampled_from([node for node in ("north", *PEERS) if node != giver]))
            transfer = a_transfer(number, n, from_node=giver, to_node=taker)
            words += [Word(giver, state) for state in stages_of(transfer, draw(st.integers(1, 4)))]
            words.append(Word(giver, a_fixity_check(number, n, node=giver)))
            asked = a_restore(number, n, from_node=taker, to_node=giver)
            words.append(Word(giver, asked))
            if draw(st.booleans()):
                words.append(Word(giver, asked.change(accepted=True, updated_at=LONG_AGO + timedelta(days=1))))
            words += [Word(peer, an_ingest(number, n)) for peer in {bag.admin_node, draw(st.sampled_from(PEERS))}]
    words += [Word(peer, a_member(n)) for n in range(draw(st.integers(0, 3))) for peer in PEERS]
    words += [Word(peer, a_node(peer, ssh_pubkey=f"ssh-ed25519 {peer}")) for peer in PEERS]
    return words


def told(sessions: Sessions, words: Sequence[Word], sizes: Sequence[int] = (1,)) -> dict[str, list[Record]]:
    """All there is after the peers told these, in batches of what one of them tells in a row."""
    start, turn = 0, 0
    while start < len(words):
        size = sizes[turn % len(sizes)]
        batch = [word for word in words[start : start + size] if word.peer == words[start].peer]
        batch = batch if batch == list(words[start : start + len(batch)]) else batch[:1]
        hear(sessions, batch[0].peer, *(word.record for word in batch))
        start, turn = start + len(batch), turn + 1
    try_again(sessions, PEERS)
    return everything(sessions)


def keeping_turns(words: Sequence[Word], order: Sequence[int]) -> list[Word]:
    """`words` in another order, but of one record of one peer the earlier states first: so they are read."""
    queues: dict[tuple[str, type[Record], tuple[str, ...]], list[Word]] = {}
    for word in words:
        queues.setdefault((word.peer, type(word.record), word.record.key), []).append(word)
    shuffled = (words[n] for n in order)
    return [queues[word.peer, type(word.record), word.record.key].pop(0) for word in shuffled]


@SLOW
@given(st.data())
def test_honest_words_end_alike_in_any_order_and_however_often(used_again: Sessions, data: st.DataObject) -> None:
    words = data.draw(honest_words())
    nodes = {kind.name: everything(used_again)[kind.name] for kind in KINDS}["node"]
    empty(used_again)
    once = told(used_again, words)
    with reading(used_again) as session:
        assert set_aside_of(session) == [], "something honest was never adopted"
    assert told(used_again, newest(words), (7,)) == once, "what was told again changed something"

    order = data.draw(st.permutations(range(len(words))))
    empty(used_again)
    with used_again.begin() as session:
        save(session, KINDS[0], [node for node in nodes if isinstance(node, NodeRecord)])
    assert (
        told(used_again, keeping_turns(words, order), data.draw(st.lists(st.integers(1, 9), min_size=1))) == once
    )
    with reading(used_again) as session:
        assert set_aside_of(session) == []


def newest(words: Sequence[Word]) -> list[Word]:
    """As a peer shows its records from the start: each in its last state."""
    return list({(word.peer, type(word.record), word.record.key): word for word in words}.values())


HOSTILE = "east"
NAMES = st.sampled_from(["north", *PEERS])
IDS = st.integers(1, 60).map(uuid)
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "admin_node": NAMES,
    "ingest_node": NAMES,
    "from_node": NAMES,
    "to_node": NAMES,
    "node": NAMES,
    "namespace": NAMES,
    "replicating_nodes": st.sets(NAMES).map(tuple),
    "replicate_to": st.sets(NAMES).map(tuple),
    "api_root": st.just("https://evil.example.org"),
    "bag": IDS,
    "first_version_uuid": IDS,
    "version": st.integers(1, 3),
    "size": st.integers(1, 3),
    "local_id": st.just("evil"),
    "name": st.just("Evil"),
    "email": st.just("evil@example.org"),
    "value": st.sampled_from([DIGEST, OTHER_DIGEST]),
    "fixity_value": st.sampled_from([None, DIGEST, OTHER_DIGEST]),
    "store_requested": st.booleans(),
    "stored": st.booleans(),
    "accepted": st.booleans(),
    "finished": st.booleans(),
    "cancelled": st.booleans(),
    "success": st.booleans(),
    "ingested": st.booleans(),
    "link": st.just("evil"),
    "created_at": st.just(LONG_AGO + timedelta(days=9)),
    "updated_at": st.sampled_from([LONG_AGO + timedelta(days=n) for n in (-9, 0, 9)]),
    "uuid": st.integers(50, 60).map(uuid),
    "replication_id": st.integers(50, 60).map(uuid),
    "restore_id": st.integers(50, 60).map(uuid),
    "ingest_id": st.integers(50, 60).map(uuid),
    "fixity_check_id": st.integers(50, 60).map(uuid),
    "member_id": st.integers(50, 60).map(uuid),
}


@st.composite
def a_forgery(draw: st.DrawFn, records: Sequence[Record]) -> Record:
    """One of the records, changed in some fields at will."""
    record = draw(st.sampled_from(records))
    fields = draw(
        st.lists(st.sampled_from([name for name, _ in record if name in CHANGES]), unique=True, max_size=4)
    )
    return record.change(**{field: draw(CHANGES[field]) for field in fields})


def owner(sessions: Sessions, record: Record, bags: dict[tuple[str, ...], BagRecord]) -> set[str]:
    """Whose record this is, by the rules of adoption."""
    match record:
        case NodeRecord():
            return {record.namespace}
        case MemberRecord():
            with reading(sessions) as session:
                return {sources_of(session, [record.member_id]).get(record.member_id, "north")}
        case BagRecord():
            return {record.admin_node}
        case DigestRecord():
            bag = bags[(record.bag,)]
            return {bag.admin_node, *({record.node} & {bag.ingest_node})}
        case IngestRecord():
            return {bags[(record.bag,)].admin_node}
        case FixityCheckRecord():
            return {record.node}
        case ReplicationRecord():
            return {record.from_node}
        case RestoreRecord():
            return {record.to_node}
    raise AssertionError(record)


def records_by_key(sessions: Sessions) -> dict[tuple[str, ...], Record]:
    return {(kind, *record.key): record for kind, records in everything(sessions).items() for record in records}


@SLOW
@given(st.data())
def test_no_words_of_a_hostile_peer_change_what_is_anothers(used_again: Sessions, data: st.DataObject) -> None:
    empty(used_again)
    words = data.draw(honest_words())
    told(used_again, words)
    ours = [a_bag(40), a_bag(41, ingest_node=HOSTILE), a_member(40)]
    with used_again.begin() as session:
        save(session, BAGS, [record for record in ours if isinstance(record, BagRecord)])
        save(session, MEMBERS, [record for record in ours if isinstance(record, MemberRecord)])
    before = records_by_key(used_again)
    others = {
        key: record
        for key, record in before.items()
        if HOSTILE not in owner(used_again, record, bags_of(used_again))
    }
    for _ in range(data.draw(st.integers(1, 4))):
        forgeries = data.draw(st.lists(a_forgery(list(before.values())), min_size=1, max_size=6))
        hear(used_again, HOSTILE, *forgeries)
    try_again(used_again, PEERS)

    after = records_by_key(used_again)
    assert {key: after.get(key) for key in others} == others
    bags = bags_of(used_again)
    for key, record in after.items():
        if record != before.get(key):
            assert HOSTILE in owner(used_again, record, bags), "it speaks in another's name"
        if isinstance(record, NodeRecord):
            assert "evil" not in record.api_root
    for peer in ("south", "west"):
        mine = [
            word.record for word in newest(words) if word.peer == peer and ("bag" not in type(word.record).KEY)
        ]
        owned = [record for record in mine if peer in owner(used_again, record, bags)]
        assert hear(used_again, peer, *owned).refused == (), "an honest peer is not believed any more"


def bags_of(sessions: Sessions) -> dict[tuple[str, ...], BagRecord]:
    with reading(sessions) as session:
        return find_many(session, BAGS, [record.key for record in everything(sessions)["bag"]])
