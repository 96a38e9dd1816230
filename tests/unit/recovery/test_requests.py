"""Requests in our registry: made once, moved on by us alone, safe to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpn.database import Sessions
from dpn.recovery.errors import RequestRefused
from dpn.recovery.requests import finish, give_up, open_request, open_requests, request_of
from dpn.registry.catalogue import BAGS, RESTORES, put_restore
from dpn.registry.catalogue.rows import save
from dpn.registry.records import RestoreRecord
from dpn.registry.rules import Accepted
from tests.fixtures.catalogue import NOW, SOUTH, catalogue_of_north
from tests.fixtures.records import a_bag, uuid

ID = uuid(0x77)


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    with catalogue_of_north(f"sqlite:///{tmp_path / 'north.db'}", tmp_path) as sessions:
        with sessions.begin() as session:
            save(session, BAGS, [a_bag(1), a_bag(2)])
        yield sessions


def ask(sessions: Sessions, bag: int = 1, from_node: str = "south", restore_id: str = ID) -> RestoreRecord:
    with sessions.begin() as session:
        return open_request(
            session, bag=uuid(bag), from_node=from_node, us="north", restore_id=restore_id, now=NOW
        )


def offer(sessions: Sessions, **fields: object) -> None:
    """What the node that holds the bag does at our registry."""
    with sessions.begin() as session:
        record = request_of(session, ID)
        assert record is not None
        decision = put_restore(session, ID, record.change(**fields), caller=SOUTH, now=NOW)
        assert isinstance(decision, Accepted), decision


def end(sessions: Sessions, restore_id: str = ID, **reason: str) -> RestoreRecord:
    with sessions.begin() as session:
        if reason:
            return give_up(session, restore_id, us="north", now=NOW, **reason)
        return finish(session, restore_id, us="north", now=NOW)


def test_the_same_request_made_again_is_the_first_one_however_far_it_has_come(sessions: Sessions) -> None:
    first = ask(sessions)
    assert (first.to_node, first.from_node, first.protocol, first.link) == ("north", "south", "rsync", None)
    assert ask(sessions) == first
    offer(sessions, accepted=True, link=f"south:{uuid(1)}.tar")
    assert ask(sessions).link == f"south:{uuid(1)}.tar"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"bag": 2}, "take another id"),
        ({"from_node": "west"}, "take another id"),
        ({"bag": 3, "restore_id": uuid(0x78)}, "no such bag"),
        ({"from_node": "nowhere", "restore_id": uuid(0x78)}, "no such node"),
        ({"from_node": "north", "restore_id": uuid(0x78)}, "itself"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(sessions, changes, word) -> None:
    ask(sessions)
    with pytest.raises(RequestRefused, match=word):
        ask(sessions, **changes)


def test_a_request_is_finished_once_it_has_a_link_and_again_without_harm(sessions: Sessions) -> None:
    ask(sessions)
    with pytest.raises(RequestRefused, match="precede the link"):
        end(sessions)
    offer(sessions, accepted=True, link=f"south:{uuid(1)}.tar")
    done = end(sessions)
    assert done.finished
    assert end(sessions) == done
    with pytest.raises(RequestRefused, match="finished"):
        end(sessions, reason_detail="too late")


def test_a_request_that_was_given_up_stays_so_with_its_first_reason(sessions: Sessions) -> None:
    ask(sessions)
    assert end(sessions, reason_detail="x" * 300).cancel_reason == "other"
    again = end(sessions, reason_detail="another")
    assert again.cancel_reason_detail is not None
    assert again.cancel_reason_detail.startswith("xxx")
    assert len(again.cancel_reason_detail) == 255
    with pytest.raises(RequestRefused, match=r"was cancelled \(other: xxx"):
        end(sessions)


def test_only_requests_of_ours_are_moved_on(sessions: Sessions) -> None:
    theirs = ask(sessions).model_copy(update={"restore_id": uuid(0x99), "from_node": "north", "to_node": "south"})
    with sessions.begin() as session:
        save(session, RESTORES, [theirs])
    with pytest.raises(RequestRefused, match="south's, not ours"):
        end(sessions, uuid(0x99))
    with pytest.raises(RequestRefused, match="south's, not ours"):
        end(sessions, uuid(0x99), reason_detail="why")
    with pytest.raises(RequestRefused, match="no restore transfer"):
        end(sessions, uuid(0x55))


def test_what_is_open_is_ours_and_neither_finished_nor_cancelled(sessions: Sessions) -> None:
    ask(sessions)
    ask(sessions, from_node="west", restore_id=uuid(0x78))
    ask(sessions, bag=2, restore_id=uuid(0x79))
    with sessions.begin() as session:
        give_up(session, ID, us="north", reason_detail="no", now=NOW)
        assert [one.restore_id for one in open_requests(session, uuid(1), us="north", lock=True)] == [uuid(0x78)]
        assert open_requests(session, uuid(1), us="south") == []
