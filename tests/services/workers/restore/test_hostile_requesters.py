"""Whatever a requester's registry says, nothing but the bag that it asked for is handed out, to it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from dpn.audit.trail import EventType, events_of_object
from dpn.database import reading
from dpn.registry.catalogue import BAGS
from dpn.registry.catalogue.rows import save
from models.registry import RestoreTransfer
from models.work import Status, Task
from tests.fixtures.records import a_bag, uuid
from tests.services.workers.fixity.checking import BAG
from tests.services.workers.restore.handing_back import LINK, Holder, holder_and_requester
from workers.pipelines import PIPELINES
from workers.restore.allow import allow_restore

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


def of_no_right_to_it(north: Holder, **fields: Any) -> str:
    """South asks for a bag that it neither owns nor ingested nor holds."""
    with north.sessions.begin() as session:
        save(session, BAGS, [a_bag(uuid=BAG, first_version_uuid=BAG, **fields)])
    restore = north.requester.ask()
    north.hear_of(restore)
    north.queue()
    north.run_due()
    return restore


def test_a_bag_waits_for_a_persons_yes_before_it_goes_to_who_has_no_right_to_it(north: Holder) -> None:
    restore = of_no_right_to_it(north)
    item = north.the_item(restore)
    assert (item.status, item.needs_attention) == (Status.PENDING, True)
    assert f"`dpn restore allow {item.id}`" in item.note
    assert not north.requester.record(restore).accepted
    with north.sessions.begin() as session:
        allow_restore(session, item.id, operator="ann", pipelines=PIPELINES, clock=north.clock)
    north.run_all()
    assert north.requester.record(restore).link is not None
    with reading(north.sessions) as session:
        allowed = [one for one in events_of_object(session, BAG) if one.event_type == EventType.OPERATOR_ALLOW]
    assert [(one.agent, one.detail["to_node"]) for one in allowed] == [("ann", "south")]


@pytest.mark.parametrize("right", ["admin_node", "ingest_node", "replicating_nodes"])
def test_a_node_that_is_excluded_gets_no_bag_of_that_member_by_asking_for_it(tmp_path: Path, right: str) -> None:
    """Whatever right it has: the member's word comes before."""
    outbound = {"main": {"folder": str(tmp_path / "outbound"), "link": LINK}}
    ingest = {"outbound": outbound, "exclude": {a_bag().member: ("south",)}}
    with holder_and_requester(tmp_path, ingest=ingest) as north:
        restore = of_no_right_to_it(north, **{right: ("south",) if right == "replicating_nodes" else "south"})
        item = north.the_item(restore)
        assert (item.status, item.note) == (Status.CANCELLED, "we do not hand bags of this member to this node")
        north.run_all()
        assert north.requester.record(restore).cancel_reason == "reject"
        assert north.offered() == []


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
