"""Whatever a requester's registry says, nothing but the bag that it asked for is handed out, to it alone."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete

from dpn.registry.catalogue import BAGS
from dpn.registry.catalogue.rows import save
from models.registry import RestoreTransfer
from models.work import Status, Task
from tests.fixtures.records import a_bag, uuid
from tests.services.workers.fixity.checking import BAG
from tests.services.workers.restore.handing_back import LINK, Holder

OTHER = uuid(77)


@pytest.mark.parametrize(
    "changed",
    [
        {"link": f"rsync://elsewhere.example.org/outbound/{BAG}.tar"},
        {"link": "../../../etc/passwd"},
        {"protocol": "carrier-pigeon"},
    ],
    ids=["link", "path as link", "protocol"],
)
@pytest.mark.parametrize("when", ["before it is accepted", "before it is offered", "once it is offered"])
def test_a_request_that_changes_is_given_up_and_nothing_lies_there(
    north: Holder, changed: dict[str, Any], when: str
) -> None:
    restore = north.requester.ask()
    north.cron()
    for _ in range({"before it is accepted": 0, "before it is offered": 3, "once it is offered": 4}[when]):
        north.run_due()
    north.requester.tamper(restore, **changed)
    north.clock.advance(north.settings.work.verdict_poll_seconds + 1)
    north.run_all()
    item = north.the_item(restore)
    assert (item.status, item.needs_attention) == (Status.FAILED, True)
    assert "changed after we accepted it" in item.note
    assert (north.offered(), north.staged(), north.quarantined()) == ([], [], [])
    notice = north.item_of(restore, Task.NOTICE)
    assert notice is not None
    assert notice.manifest["cancel_reason"] == "reject"


@pytest.mark.parametrize("field", ["bag", "from_node", "to_node"])
def test_a_request_that_becomes_one_for_something_else_delivers_nothing_more(north: Holder, field: str) -> None:
    with north.requester.registry.sessions.begin() as session:
        save(session, BAGS, [a_bag(uuid=OTHER, first_version_uuid=OTHER, local_id="another")])
    restore = north.requester.ask()
    north.cron()
    north.run_due()
    value = {"bag": OTHER, "from_node": "south", "to_node": "north"}[field]
    north.requester.tamper(restore, **{field: value})
    north.run_all()
    item = north.the_item(restore)
    assert (item.status, item.needs_attention) == (Status.FAILED, True)
    assert (north.offered(), north.staged()) == ([], [])


def test_a_request_that_is_finished_before_anything_was_offered_costs_no_more(north: Holder) -> None:
    restore = north.requester.ask()
    north.cron()
    north.run_due()
    north.requester.tamper(restore, finished=True)
    north.run_all()
    assert north.the_item(restore).status == Status.CANCELLED
    assert (north.offered(), north.staged(), north.quarantined()) == ([], [], [])


def test_a_request_that_was_finished_and_is_open_again_is_not_served_twice(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.requester.finish(restore)
    north.poll()
    assert north.the_item(restore).status == Status.SUCCESS
    north.requester.tamper(restore, finished=False)
    north.cron()
    result = north.reconcile()
    assert result.reports == [f"restore delivered, open again at its owner: {restore}"]
    north.queue()
    north.run_all()
    assert north.the_item(restore).status == Status.SUCCESS
    assert north.offered() == []


def test_a_link_that_the_requester_forgets_is_told_again(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    north.requester.tamper(restore, link=None, accepted=False)
    north.poll()
    record = north.requester.record(restore)
    assert (record.accepted, record.link) == (True, LINK.format(node="south", bag=BAG))
    assert north.the_item(restore).status == Status.PENDING


def test_a_request_that_its_owner_forgets_is_given_up_and_withdrawn(north: Holder) -> None:
    restore = north.requester.ask()
    north.hand_out(restore)
    with north.requester.registry.sessions.begin() as session:
        session.execute(delete(RestoreTransfer))
    north.poll()
    item = north.the_item(restore)
    assert item.status == Status.FAILED
    assert "does not know transfer" in item.note
    assert (north.offered(), north.staged()) == ([], [])
