"""What could not be taken over: kept with its reason, tried again, seen by operators, and never without bound."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from dpn.database import Sessions, reading
from dpn.registry.catalogue import (
    BAGS,
    DIGESTS,
    TRANSFERS,
    RefusedRecord,
    UnreadableRow,
    apply_from_peer,
    aside,
    count_set_aside,
    expire,
    set_aside,
    set_aside_of,
    settle,
    take_up,
)
from dpn.registry.records import Record
from models.registry import SetAsideRecord
from tests.fixtures.catalogue import NOW, adopt, at_once, catalogue_of_north, everything, hear, try_again
from tests.fixtures.records import a_bag, a_digest, a_transfer, uuid

DAY = timedelta(days=1)


@pytest.fixture
def sessions(database_url: str, tmp_path: Path) -> Iterator[Sessions]:
    with catalogue_of_north(database_url, tmp_path) as sessions:
        yield sessions


def refused(sessions: Sessions, peer: str, *records: Record) -> tuple[RefusedRecord, ...]:
    applied = adopt(sessions, peer, *records)
    assert len(applied.refused) == len(records)
    return applied.refused


def digests(*numbers: int) -> list[Record]:
    return [a_digest(n, node="south") for n in numbers]


def keys(sessions: Sessions, peer: str | None = None) -> list[str]:
    with reading(sessions) as session:
        return [one.key for one in set_aside_of(session, peer)]


def test_a_record_that_comes_before_its_bag_is_adopted_once_the_bag_is_there(sessions: Sessions) -> None:
    souths = a_bag(1, admin_node="south", ingest_node="south")
    transfer = a_transfer(1, from_node="south", to_node="north")
    hear(sessions, "south", a_digest(1, node="south"), transfer)
    assert len(keys(sessions)) == 2
    hear(sessions, "south", souths)
    try_again(sessions, ["south"])
    assert keys(sessions) == []
    found = everything(sessions)
    assert (found["digest"], found["replicate"]) == ([a_digest(1, node="south")], [transfer])


def test_what_is_set_aside_is_shown_whole_with_its_reason(sessions: Sessions) -> None:
    with sessions.begin() as session:
        set_aside(session, "south", refused(sessions, "south", *digests(1)), NOW)
    with sessions.begin() as session:
        set_aside(session, "south", [UnreadableRow("bag", "uuid: missing", '{"a": "\ud800"}')], NOW + DAY)
    with reading(sessions) as session:
        unreadable, digest = set_aside_of(session)
        assert set_aside_of(session, limit=1) == [unreadable]
        assert set_aside_of(session, "west") == []
        assert count_set_aside(session) == {"south": 2}
    assert (digest.peer, digest.kind, digest.key, digest.status) == ("south", "digest", f"{uuid(1)}/sha256", 404)
    assert digest.record == a_digest(1, node="south").to_wire()
    assert "not known" in digest.reason
    assert (unreadable.status, unreadable.reason, unreadable.record) == (422, "uuid: missing", None)
    assert unreadable.key.startswith("sha256:")


def test_a_record_that_is_refused_again_is_one_row_with_the_latest_reason(sessions: Sessions) -> None:
    [first] = refused(sessions, "south", *digests(1))
    adopt(sessions, "west", a_bag(1, admin_node="west", ingest_node="west"))
    [second] = refused(sessions, "south", *digests(1))
    for days, one, seen in ((0, first, True), (1, first, True), (2, second, False)):
        with sessions.begin() as session:
            set_aside(session, "south", [one, one], NOW + days * DAY, seen=seen)
    with reading(sessions) as session:
        [shown] = set_aside_of(session)
    assert (shown.status, shown.first_seen_at, shown.last_seen_at) == (403, NOW, NOW + DAY)


def test_peers_and_kinds_do_not_get_in_each_others_way(sessions: Sessions) -> None:
    for peer in ("south", "west"):
        hear(sessions, peer, *digests(1), a_transfer(1, 1))
    with sessions.begin() as session:
        assert settle(session, "south", DIGESTS, [(uuid(1), "sha256"), (uuid(2), "sha256")]) == 1
        assert settle(session, "south", BAGS, [(uuid(1),)]) == 0
    assert len(keys(sessions, "south")) == 1
    assert len(keys(sessions, "west")) == 2


def test_all_that_is_set_aside_is_taken_up_in_batches_even_while_it_is_settled(sessions: Sessions) -> None:
    hear(sessions, "south", *digests(*range(1, 26)))
    hear(sessions, "south", a_transfer(1, 1, from_node="south"))
    taken = []
    with sessions() as session:
        for batch in take_up(session, "south", DIGESTS, size=10):
            assert len(batch) <= 10
            taken += batch
            settle(session, "south", DIGESTS, [record.key for record in batch])
            session.commit()
    assert [digest.bag for digest in taken] == [uuid(n) for n in range(1, 26)]
    assert keys(sessions) == [uuid(0x1001)]


def test_a_row_that_is_no_record_any_more_spoils_no_other(sessions: Sessions) -> None:
    hear(sessions, "south", *digests(1, 2, 3))
    damaged = update(SetAsideRecord).where(SetAsideRecord.record_key == f"{uuid(2)}/sha256")
    with sessions.begin() as session:
        session.execute(damaged.values(record={"bag": "?"}))
        set_aside(session, "south", [UnreadableRow("digest", "broken", "{")], NOW)
    with reading(sessions) as session:
        batches = list(take_up(session, "south", DIGESTS, size=1))
    assert [digest.bag for batch in batches for digest in batch] == [uuid(1), uuid(3)]


def test_a_peer_that_shows_ever_more_loses_its_own_oldest(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "MAX_ROWS", 5)
    with sessions.begin() as session:
        set_aside(session, "west", apply_from_peer(session, "west", digests(50)).refused, NOW)
        for day in range(4):
            records = apply_from_peer(session, "south", digests(2 * day, 2 * day + 1)).refused
            assert set_aside(session, "south", records, NOW + day * DAY) == (0, 0, 1, 2)[day]
    assert sorted(keys(sessions, "south")) == [f"{uuid(n)}/sha256" for n in range(3, 8)]
    assert len(keys(sessions, "west")) == 1


def test_what_a_peer_no_longer_shows_is_forgotten_after_a_month(sessions: Sessions) -> None:
    for day, number in ((0, 1), (1, 2)):
        with sessions.begin() as session:
            set_aside(
                session, "south", apply_from_peer(session, "south", digests(number)).refused, NOW + day * DAY
            )
            set_aside(session, "west", apply_from_peer(session, "west", digests(1)).refused, NOW)
    with sessions.begin() as session:
        assert expire(session, "south", NOW + aside.KEEP_FOR) == 0
        assert expire(session, "south", NOW + aside.KEEP_FOR + timedelta(seconds=1)) == 1
    assert keys(sessions, "south") == [f"{uuid(2)}/sha256"]
    assert len(keys(sessions, "west")) == 1


def test_texts_of_any_length_are_kept_in_so_many_characters(sessions: Sessions) -> None:
    with sessions.begin() as session:
        set_aside(session, "south", [UnreadableRow("bag", "r" * 100_000, "x" * 100_000)], NOW)
    with reading(sessions) as session:
        [shown] = set_aside_of(session)
    assert (len(shown.reason), len(shown.excerpt or "")) == (aside.MAX_REASON_LENGTH, aside.MAX_EXCERPT_LENGTH)


def test_two_syncs_of_one_peer_at_once_set_the_same_aside_once(sessions: Sessions) -> None:
    records = [*digests(*range(1, 30)), *(a_transfer(n, n, from_node="south") for n in range(1, 30))]
    for _ in range(3):
        at_once(*[lambda: hear(sessions, "south", *records), lambda: hear(sessions, "south", *records[::-1])])
    assert len(keys(sessions)) == 58
    with reading(sessions) as session:
        assert sum(len(batch) for batch in take_up(session, "south", TRANSFERS)) == 29
